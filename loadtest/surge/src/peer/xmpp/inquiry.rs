//! What a server says of itself.

use super::{Names, login};
use crate::peer::PeerError;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Server {
    /// Name and version (XEP-0092).
    pub(super) version: String,
    /// Whether people have an archive (XEP-0313).
    pub(super) archives: bool,
}

/// Asks with person `index`'s account. A server that does not say its version is an XMPP server all the same.
pub(super) async fn of(names: &Names, index: u32) -> Result<Server, PeerError> {
    let mut stream = login::log_in(names, index).await?;
    let version =
        stream.ask("version", "get", Some(&names.domain), "<query xmlns='jabber:iq:version'/>").await;
    let version = version.ok().and_then(|answer| {
        let query = answer.child("query")?;
        let part = |name| query.child(name).map(|child| child.text.trim().to_owned());
        Some(format!("{} {}", part("name")?, part("version").unwrap_or_default()))
    });
    let own = names.address(index);
    let disco = "<query xmlns='http://jabber.org/protocol/disco#info'/>";
    let features = stream.ask("disco", "get", Some(&own), disco).await?;
    let features = features.child("query").map(|query| query.children.clone()).unwrap_or_default();
    let archives = features
        .iter()
        .filter(|child| child.name == "feature")
        .filter_map(|feature| feature.attribute("var"))
        .any(|var| var.starts_with("urn:xmpp:mam:"));
    Ok(Server {
        version: version.unwrap_or_else(|| "a server that does not say its version".to_owned()),
        archives,
    })
}
