//! A resource that speaks WebSocket.
#![allow(dead_code, reason = "each test file uses its part")]
#![allow(clippy::result_large_err, reason = "the handshake callback has that type")]

use std::sync::{Arc, Mutex};

use futures_util::{SinkExt, StreamExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server;

/// Says back what it hears; its path, its key and its frames are noted.
#[derive(Clone, Default)]
pub(crate) struct Heard {
    noted: Arc<Mutex<Vec<String>>>,
    greeting: Option<&'static str>,
}

impl Heard {
    /// One that speaks first.
    pub(crate) fn greeting(text: &'static str) -> Self {
        Self { greeting: Some(text), ..Self::default() }
    }

    pub(crate) fn all(&self) -> Vec<String> {
        self.noted.lock().unwrap().clone()
    }

    /// Only what was said.
    pub(crate) fn frames(&self) -> Vec<String> {
        self.all().into_iter().filter(|noted| !noted.starts_with("GET ")).collect()
    }

    pub(crate) async fn serve(&self) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (url, heard) = (format!("http://{}", listener.local_addr().unwrap()), self.clone());
        tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                tokio::spawn(heard.clone().echo(tcp));
            }
        });
        url
    }

    async fn echo(self, tcp: TcpStream) {
        let note = self.clone();
        let accepted = tokio_tungstenite::accept_hdr_async(tcp, move |request: &server::Request, answer| {
            let header = |name| request.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
            let seen = format!("{} {} {:?}", request.method(), request.uri(), header("api-key"));
            note.noted.lock().unwrap().push(seen);
            let unasked = ["content-type", "content-length", "sec-websocket-extensions"].map(header);
            assert_eq!(unasked, [const { None }; 3]);
            Ok(answer)
        });
        let Ok(mut socket) = accepted.await else { return };
        if let Some(greeting) = self.greeting {
            socket.send(Message::text(greeting)).await.unwrap();
        }
        while let Some(Ok(message)) = socket.next().await {
            if let Message::Text(text) = &message {
                self.noted.lock().unwrap().push(text.to_string());
                socket.send(message).await.unwrap();
            }
        }
    }
}
