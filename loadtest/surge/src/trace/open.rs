//! A file, whether it is compressed or not.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use flate2::bufread::MultiGzDecoder;
use ruzstd::decoding::StreamingDecoder;
use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};

use super::TraceError;

const GZIP: [u8; 2] = [0x1f, 0x8b];
const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

pub(super) type Bytes = Box<dyn Read + Send>;

/// Opens it; the first bytes say how it is compressed, whatever it is called.
pub(super) fn open(path: &Path) -> Result<Bytes, TraceError> {
    let failed = |source| TraceError::Open { path: path.to_owned(), source };
    let mut file = BufReader::with_capacity(64 * 1024, File::open(path).map_err(failed)?);
    let start = file.fill_buf().map_err(failed)?;
    if start.starts_with(&GZIP) {
        return Ok(Box::new(MultiGzDecoder::new(file)));
    }
    if start.starts_with(&ZSTD) {
        return Ok(Box::new(Frames { file: Some(file), frame: None }));
    }
    Ok(Box::new(file))
}

/// The frames of a zstd file, one after the other: a file that was appended to, or compressed in parallel, has several.
struct Frames {
    /// `None` while a frame is decoded.
    file: Option<BufReader<File>>,
    frame: Option<Box<StreamingDecoder<BufReader<File>, ruzstd::decoding::FrameDecoder>>>,
}

impl Read for Frames {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if let Some(frame) = &mut self.frame {
                match frame.read(buffer)? {
                    0 if !buffer.is_empty() => {}
                    read => return Ok(read),
                }
                self.file = self.frame.take().map(|frame| frame.into_inner());
            }
            let Some(mut file) = self.file.take() else { return Ok(0) };
            if file.fill_buf()?.is_empty() {
                self.file = Some(file);
                return Ok(0);
            }
            match skippable(&mut file)? {
                true => self.file = Some(file),
                false => self.frame = Some(Box::new(StreamingDecoder::new(file).map_err(not_zstd)?)),
            }
        }
    }
}

/// Passes over a frame that holds nothing of the content, if one begins here.
fn skippable(file: &mut BufReader<File>) -> io::Result<bool> {
    // The whole buffer was just filled, so that a frame that begins in its last bytes is the only one not seen.
    let Some(header) = file.buffer().get(..8) else { return Ok(false) };
    let word = |at: usize| u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    if word(0) & 0xFFFF_FFF0 != 0x184D_2A50 {
        return Ok(false);
    }
    let length = u64::from(word(4)) + 8;
    io::copy(&mut file.take(length), &mut io::sink())?;
    Ok(true)
}

fn not_zstd(error: FrameDecoderError) -> io::Error {
    match error {
        FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::MagicNumberReadError(error)) => error,
        other => io::Error::new(io::ErrorKind::InvalidData, other.to_string()),
    }
}
