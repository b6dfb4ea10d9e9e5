//! The live status page, over a socket.

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::overload::ladder;
use super::support::{Node, PATIENCE, eventually, get};

/// The events of one watcher.
struct Watcher(BufReader<TcpStream>);

impl Watcher {
    /// The status line's code, and the stream behind it.
    async fn open(admin: &str) -> (String, Self) {
        let address = admin.strip_prefix("http://").unwrap();
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("GET /status/events HTTP/1.1\r\nhost: {address}\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut watcher = Self(BufReader::new(stream));
        let head = watcher.line().await.unwrap();
        (head.split(' ').nth(1).unwrap().to_owned(), watcher)
    }

    async fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        let read = timeout(PATIENCE, self.0.read_line(&mut line)).await.expect("a line comes");
        (read.unwrap_or(0) > 0).then_some(line)
    }

    /// `None`: the stream has ended.
    async fn event(&mut self) -> Option<Value> {
        loop {
            if let Some(data) = self.line().await?.strip_prefix("data: ") {
                return Some(serde_json::from_str(data).unwrap());
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_page_is_whole_and_its_events_follow_what_the_controllers_decide() {
    let mut node = Node::start("status", &[]).await;
    let admin = node.server.admin.clone();
    let (status, page) = get(&admin, "/").await;
    assert!(status == 200 && page.starts_with("<!doctype html>"), "{status}");
    let asks =
        page.matches("http://").count() + page.matches("https://").count() + page.matches("src=").count();
    assert_eq!(asks, 0, "it asks for nothing but its events");

    let (code, mut watcher) = Watcher::open(&admin).await;
    assert_eq!(code, "200");
    let [anna, bert] = node.people().await;
    let mut seen = None;
    while seen.is_none() {
        // Again each time: a watcher that is not read in time misses seconds.
        anna.send(&bert, "hello").await.unwrap();
        let event = watcher.event().await.expect("it goes on");
        let classes = event["hops"][0]["classes"].as_array().cloned().unwrap_or_default();
        let served = |class: &Value| class["name"] == "send" && class["served"].as_f64().unwrap() > 0.0;
        seen = classes.iter().any(served).then_some(event);
    }
    let event = seen.unwrap();
    assert_eq!(event["health"]["ready"], true);
    assert_eq!(event["ladder"]["rung"], 0);
    assert_eq!(event["hops"][0]["name"], "gateway");
    assert_eq!(event["roles"], "gateway,registration,directory,mailbox,control");
    assert!(event["demand"].as_array().unwrap().iter().any(|role| role["role"] == "mailbox"), "{event}");

    assert!(ladder(&node, &["set", "4"]).await.0);
    let ladder = loop {
        let event = watcher.event().await.expect("it goes on");
        if event["ladder"]["held"] == true {
            break event["ladder"]["rung"].clone();
        }
    };
    assert_eq!(ladder, 4);
    eventually("the room is shown", || {
        let admin = admin.clone();
        async move {
            let last: Value = serde_json::from_str(&get(&admin, "/status").await.1).unwrap();
            last["room"]["mode"].is_string()
        }
    })
    .await;

    // Who watches does not keep the process from ending.
    node.server.signal("TERM").await.unwrap();
    while watcher.event().await.is_some() {}
    assert_eq!(node.server.wait().await.unwrap().code(), Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn watchers_are_bounded_and_who_leaves_makes_room() {
    let node = Node::start("watchers", &[]).await;
    let admin = &node.server.admin;
    let mut watchers = Vec::new();
    for _ in 0..32 {
        let (code, watcher) = Watcher::open(admin).await;
        assert_eq!(code, "200");
        watchers.push(watcher);
    }
    assert_eq!(Watcher::open(admin).await.0, "503");
    drop(watchers.pop());
    eventually("a place is free", || async { Watcher::open(admin).await.0 == "200" }).await;
}
