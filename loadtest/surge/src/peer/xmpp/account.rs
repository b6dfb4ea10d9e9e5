//! In-band registration (XEP-0077).

use super::login::NOT_AUTHORIZED;
use super::{Names, login};
use crate::peer::PeerError;
use crate::stats::Outcome;

const REGISTER: &str = "jabber:iq:register";

/// Registers person `index`, on a connection of its own. An account that exists is that of an earlier part of the run.
pub(super) async fn register(names: &Names, index: u32) -> Result<(), PeerError> {
    let (mut stream, _) = login::open(names).await?;
    let (user, password) = (names.user(index), names.password());
    let query = format!(
        "<query xmlns='{REGISTER}'><username>{user}</username><password>{password}</password></query>"
    );
    stream.write(&format!("<iq type='set' id='register'>{query}</iq>")).await?;
    let answer = stream.next().await?;
    let condition = answer.condition();
    match answer.attribute("type") {
        Some("result") => Ok(()),
        Some("error") if condition.starts_with("conflict") => Ok(()),
        _ => Err(PeerError::refused(
            "register an account in-band (XEP-0077)",
            "NOT_REGISTERED",
            format!(
                "{condition}; for a load test, allow registration from this address and set registration_timeout to infinity"
            ),
        )),
    }
}

/// Removes person `index`'s account, with what is kept for it.
pub(super) async fn remove(names: &Names, index: u32) -> Result<(), PeerError> {
    let mut stream = match login::log_in(names, index).await {
        // Nobody of that name was registered.
        Err(error) if error.outcome() == Outcome::Refused(NOT_AUTHORIZED) => return Ok(()),
        stream => stream?,
    };
    let query = format!("<query xmlns='{REGISTER}'><remove/></query>");
    stream.write(&format!("<iq type='set' id='remove'>{query}</iq>")).await?;
    // Some servers answer and some end the stream, because there is nobody to answer to.
    loop {
        let Ok(answer) = stream.next().await else { return Ok(()) };
        match (answer.name.as_str(), answer.attribute("type")) {
            ("iq", Some("error")) => {
                return Err(PeerError::refused("remove an account", "NOT_REMOVED", answer.condition()));
            }
            ("iq", Some("result")) | ("error", _) => return Ok(()),
            _ => {}
        }
    }
}
