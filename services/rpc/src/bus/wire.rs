//! HTTP headers as headers of NATS, and bodies as single frames.

use std::convert::Infallible;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, header};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use spillway_bus::nats::{Headers, InvalidHeader};
use tonic::Status;

use super::FRAME_BYTES_MAX;

pub(super) const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
pub(super) const CONTENT_TYPE: HeaderValue = HeaderValue::from_static("application/grpc");
pub(super) const OK: HeaderValue = HeaderValue::from_static("0");

/// What belongs to HTTP/2 and is the same for each call.
const IMPLIED: [HeaderName; 3] = [header::CONTENT_TYPE, header::TE, header::USER_AGENT];

/// # Errors
///
/// When a value is not ASCII. gRPC allows other bytes in `-bin` metadata only, which are base64 here already.
pub(super) fn write(from: &HeaderMap, to: &mut Headers) -> Result<(), InvalidHeader> {
    for (name, value) in from {
        let status_ok = name == GRPC_STATUS && value == OK;
        if !status_ok && !IMPLIED.contains(name) {
            to.append(name.as_str(), value.to_str().map_err(|_| InvalidHeader)?)?;
        }
    }
    Ok(())
}

/// Headers that HTTP does not know are left out.
pub(super) fn read(from: &Headers) -> HeaderMap {
    let mut to = HeaderMap::new();
    for (name, value) in from.iter() {
        if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), HeaderValue::from_str(value)) {
            to.append(name, value);
        }
    }
    to
}

/// A whole body.
pub(super) struct Whole {
    pub(super) frame: Bytes,
    pub(super) trailers: Option<HeaderMap>,
}

/// # Errors
///
/// The body's own error, or `OUT_OF_RANGE` when it is larger than a frame may be.
pub(super) async fn collect<B>(body: B) -> Result<Whole, Status>
where
    B: Body<Data = Bytes, Error = Status>,
{
    let mut body = pin!(body);
    let mut whole = Whole { frame: Bytes::new(), trailers: None };
    while let Some(frame) = body.frame().await {
        match frame?.into_data() {
            Ok(data) if whole.frame.len() + data.len() > FRAME_BYTES_MAX => {
                return Err(too_large(whole.frame.len() + data.len()));
            }
            // A unary body is one piece as a rule.
            Ok(data) if whole.frame.is_empty() => whole.frame = data,
            Ok(data) => {
                let mut joined = BytesMut::from(whole.frame);
                joined.extend_from_slice(&data);
                whole.frame = joined.freeze();
            }
            Err(frame) => whole.trailers = frame.into_trailers().ok(),
        }
    }
    Ok(whole)
}

fn too_large(bytes: usize) -> Status {
    Status::out_of_range(format!(
        "the message is too large for the bus: at least {bytes} bytes, the limit is {FRAME_BYTES_MAX}"
    ))
}

/// A body of one frame, with or without trailers.
pub(super) struct OneFrame {
    frame: Option<Bytes>,
    trailers: Option<HeaderMap>,
}

impl OneFrame {
    pub(super) fn request(frame: Bytes) -> Self {
        Self { frame: Some(frame), trailers: None }
    }

    pub(super) fn response(frame: Bytes) -> Self {
        Self { frame: Some(frame), trailers: Some(HeaderMap::from_iter([(GRPC_STATUS, OK)])) }
    }
}

impl Body for OneFrame {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let data = self.frame.take().map(Frame::data);
        Poll::Ready(data.or_else(|| self.trailers.take().map(Frame::trailers)).map(Ok))
    }

    fn is_end_stream(&self) -> bool {
        self.frame.is_none() && self.trailers.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.frame.as_ref().map_or(0, Bytes::len) as u64)
    }
}
