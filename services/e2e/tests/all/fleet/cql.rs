//! The native protocol, as far as it takes to make and to drop a keyspace: a driver would bring its own opinions, and
//! one crate alone may use one.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

const REQUEST_V4: u8 = 0x04;
const STARTUP: u8 = 0x01;
const QUERY: u8 = 0x07;
const ERROR: u8 = 0x00;
const CONSISTENCY_ONE: u16 = 1;
/// Schema changes of several tests wait for each other.
const ANSWER_MAX: Duration = Duration::from_secs(60);

/// Runs statements one after another, over one connection.
pub(crate) fn execute(address: &str, statements: &[String]) -> io::Result<()> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(ANSWER_MAX))?;
    let startup = [&1_u16.to_be_bytes()[..], &short_text("CQL_VERSION"), &short_text("3.0.0")].concat();
    exchange(&mut stream, STARTUP, &startup)?;
    for statement in statements {
        let length = u32::try_from(statement.len()).expect("statements are short");
        let no_flags = [0];
        let query =
            [&length.to_be_bytes()[..], statement.as_bytes(), &CONSISTENCY_ONE.to_be_bytes(), &no_flags];
        exchange(&mut stream, QUERY, &query.concat())?;
    }
    Ok(())
}

fn short_text(text: &str) -> Vec<u8> {
    let length = u16::try_from(text.len()).expect("texts are short");
    [&length.to_be_bytes()[..], text.as_bytes()].concat()
}

fn exchange(stream: &mut TcpStream, opcode: u8, body: &[u8]) -> io::Result<()> {
    let length = u32::try_from(body.len()).expect("bodies are short");
    let (flags, stream_id) = ([0], [0, 0]);
    let frame = [&[REQUEST_V4], &flags[..], &stream_id, &[opcode], &length.to_be_bytes(), body].concat();
    stream.write_all(&frame)?;
    let mut head = [0; 9];
    stream.read_exact(&mut head)?;
    let length = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
    let mut answer = vec![0; usize::try_from(length).expect("it fits")];
    stream.read_exact(&mut answer)?;
    match head[4] {
        // A code of four bytes, and a text with its length in two.
        ERROR => Err(io::Error::other(String::from_utf8_lossy(&answer[6..]).into_owned())),
        _ => Ok(()),
    }
}
