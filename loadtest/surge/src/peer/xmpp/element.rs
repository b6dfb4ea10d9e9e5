//! XML elements off a stream that never ends.
//!
//! Names are without their prefix, and the namespace is what the element itself declares: servers declare it on what is not `jabber:client`.

use std::collections::HashMap;

use quick_xml::Reader;
use quick_xml::escape::{resolve_predefined_entity, unescape};
use quick_xml::events::{BytesStart, Event};
use tokio::io::AsyncBufRead;

/// More of one stanza is an error: servers of this kind allow a quarter of it.
const STANZA_BYTES_MAX: usize = 1 << 20;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Element {
    pub(super) name: String,
    attributes: HashMap<String, String>,
    pub(super) children: Vec<Element>,
    pub(super) text: String,
}

#[derive(Debug, thiserror::Error)]
pub(super) enum ElementError {
    #[error("what the server sent is not XML")]
    Xml(#[from] quick_xml::Error),
    #[error("what the server sent is not XML: {0}")]
    Malformed(&'static str),
    #[error("a stanza is larger than {STANZA_BYTES_MAX} bytes")]
    TooLarge,
    #[error("the server ended the connection")]
    Ended,
}

/// Not cancel-safe: to be read by one task.
#[derive(Debug)]
pub(super) struct Elements<R> {
    reader: Reader<R>,
}

impl Element {
    pub(super) fn attribute(&self, name: &str) -> Option<&str> {
        self.attributes.get(name).map(String::as_str)
    }

    /// Whether it is this element of this namespace.
    pub(super) fn is(&self, name: &str, namespace: &str) -> bool {
        self.name == name && self.attribute("xmlns") == Some(namespace)
    }

    pub(super) fn child(&self, name: &str) -> Option<&Element> {
        self.children.iter().find(|child| child.name == name)
    }

    /// The condition of an error: the name of its first child, in which servers put it.
    pub(super) fn condition(&self) -> String {
        let error = self.child("error").unwrap_or(self);
        let text = error.child("text").map(|text| format!(": {}", text.text)).unwrap_or_default();
        let condition = error.children.iter().find(|child| child.name != "text");
        format!("{}{text}", condition.map_or("error", |condition| &condition.name))
    }
}

impl<R: AsyncBufRead + Unpin> Elements<R> {
    pub(super) fn new(source: R) -> Self {
        Self { reader: Reader::from_reader(source) }
    }

    /// Another document on the same connection, as after a login.
    pub(super) fn restarted(self) -> Self {
        Self::new(self.reader.into_inner())
    }

    /// The opening of the stream, which does not close until the end.
    pub(super) async fn opening(&mut self) -> Result<Element, ElementError> {
        let mut buffer = Vec::new();
        loop {
            buffer.clear();
            match self.reader.read_event_into_async(&mut buffer).await? {
                Event::Start(start) => return opened(&start),
                Event::Eof => return Err(ElementError::Ended),
                Event::Decl(_) | Event::Text(_) | Event::Comment(_) | Event::PI(_) => {}
                _ => return Err(ElementError::Malformed("no stream was opened")),
            }
        }
    }

    /// The next whole child of the stream.
    pub(super) async fn next(&mut self) -> Result<Element, ElementError> {
        let (mut open, mut buffer, mut bytes) = (Vec::<Element>::new(), Vec::new(), 0);
        loop {
            buffer.clear();
            let event = self.reader.read_event_into_async(&mut buffer).await?;
            let whole = match event {
                Event::Start(start) => {
                    open.push(opened(&start)?);
                    None
                }
                Event::Empty(start) => Some(opened(&start)?),
                // The end of the stream itself where nothing is open.
                Event::End(_) => Some(open.pop().ok_or(ElementError::Ended)?),
                Event::Text(text) => {
                    add(&mut open, std::str::from_utf8(&text).map_err(|_| NOT_UTF8)?);
                    None
                }
                Event::CData(text) => {
                    add(&mut open, std::str::from_utf8(&text).map_err(|_| NOT_UTF8)?);
                    None
                }
                Event::GeneralRef(reference) => {
                    match reference.resolve_char_ref()? {
                        Some(character) => add(&mut open, character.encode_utf8(&mut [0; 4])),
                        None => {
                            let name = std::str::from_utf8(&reference).map_err(|_| NOT_UTF8)?;
                            let known = resolve_predefined_entity(name);
                            add(
                                &mut open,
                                known.ok_or(ElementError::Malformed("an entity that is not predefined"))?,
                            );
                        }
                    }
                    None
                }
                Event::Eof => return Err(ElementError::Ended),
                Event::Decl(_) | Event::PI(_) | Event::Comment(_) | Event::DocType(_) => None,
            };
            bytes += buffer.len();
            if bytes > STANZA_BYTES_MAX {
                return Err(ElementError::TooLarge);
            }
            match (whole, open.last_mut()) {
                (Some(child), Some(parent)) => parent.children.push(child),
                (Some(element), None) => return Ok(element),
                (None, _) => {}
            }
        }
    }
}

const NOT_UTF8: ElementError = ElementError::Malformed("it is not UTF-8");

fn opened(start: &BytesStart<'_>) -> Result<Element, ElementError> {
    let text = |bytes: &[u8]| std::str::from_utf8(bytes).map(str::to_owned).map_err(|_| NOT_UTF8);
    let mut element = Element { name: text(start.local_name().as_ref())?, ..Element::default() };
    for attribute in start.attributes() {
        let attribute = attribute.map_err(quick_xml::Error::from)?;
        let value = text(&attribute.value)?;
        let value = unescape(&value).map_err(|_| ElementError::Malformed("an attribute"))?.into_owned();
        element.attributes.insert(text(attribute.key.as_ref())?, value);
    }
    Ok(element)
}

/// Between stanzas there are spaces that keep a connection alive.
fn add(open: &mut [Element], text: &str) {
    if let Some(element) = open.last_mut() {
        element.text.push_str(text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPENING: &str = "<?xml version='1.0'?><stream:stream xmlns='jabber:client' id='1' xmlns:stream='http://etherx.jabber.org/streams'>";

    #[tokio::test]
    async fn stanzas_come_one_after_the_other_and_the_end_is_told() {
        let text = format!(
            "{OPENING}<stream:features><mechanisms xmlns='urn:x'><mechanism>PLAIN</mechanism></mechanisms></stream:features>\n \
             <message from='a&amp;b@c' type='chat'><body>a&lt;b &#x41;</body><x/></message><a xmlns='urn:xmpp:sm:3' h='7'/></stream:stream>"
        );
        let mut elements = Elements::new(text.as_bytes());
        assert_eq!(elements.opening().await.unwrap().attribute("id"), Some("1"));
        let features = elements.next().await.unwrap();
        let mechanism = features.child("mechanisms").unwrap().child("mechanism").unwrap();
        assert_eq!((features.name.as_str(), mechanism.text.as_str()), ("features", "PLAIN"));
        let message = elements.next().await.unwrap();
        assert_eq!((message.attribute("from"), message.attribute("type")), (Some("a&b@c"), Some("chat")));
        assert_eq!(message.child("body").unwrap().text, "a<b A");
        let ack = elements.next().await.unwrap();
        assert!(ack.is("a", "urn:xmpp:sm:3") && !ack.is("a", "urn:xmpp:sm:2"));
        assert!(matches!(elements.next().await, Err(ElementError::Ended)));
    }

    #[tokio::test]
    async fn a_stream_is_opened_again_on_the_same_bytes() {
        let text = format!("{OPENING}<success xmlns='urn:s'/>{OPENING}<features/>");
        let mut elements = Elements::new(text.as_bytes());
        elements.opening().await.unwrap();
        assert!(elements.next().await.unwrap().is("success", "urn:s"));
        let mut elements = elements.restarted();
        elements.opening().await.unwrap();
        assert_eq!(elements.next().await.unwrap().name, "features");
        assert!(matches!(elements.next().await, Err(ElementError::Ended)));
    }

    #[tokio::test]
    async fn what_is_no_stanza_is_an_error() {
        for text in ["<a><b></a>", "<a>&nonsense;</a>", "<a x='&nonsense;'/>"] {
            let mut elements = Elements::new(text.as_bytes());
            assert!(elements.next().await.is_err(), "{text}");
        }
        let large = format!("<a>{}</a>", "<b/>".repeat(STANZA_BYTES_MAX));
        assert!(matches!(Elements::new(large.as_bytes()).next().await, Err(ElementError::TooLarge)));
    }

    #[tokio::test]
    async fn the_condition_of_an_error_is_told_in_its_words() {
        let text = "<iq type='error'><query/><error type='wait'><resource-constraint xmlns='x'/>\
                    <text>too fast</text></error></iq><failure><not-authorized/></failure>";
        let mut elements = Elements::new(text.as_bytes());
        assert_eq!(elements.next().await.unwrap().condition(), "resource-constraint: too fast");
        assert_eq!(elements.next().await.unwrap().condition(), "not-authorized");
    }
}
