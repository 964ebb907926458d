//! A bare hyper server and client: what a reverse proxy of these libraries costs without any policy.

use std::convert::Infallible;

use http::{Request, Uri};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpListener;
use tower::BoxError;

/// Listens on `LISTEN` and passes everything to `BACKEND`.
pub(crate) async fn run() -> Result<(), BoxError> {
    let (listen, backend) = (std::env::var("LISTEN")?, std::env::var("BACKEND")?);
    let listener = TcpListener::bind(listen).await?;
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    let client: Client<_, Incoming> = Client::builder(TokioExecutor::new()).build(connector);
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let (client, backend) = (client.clone(), backend.clone());
        tokio::spawn(async move {
            let service = service_fn(|mut request: Request<Incoming>| {
                let uri = format!("http://{backend}{}", request.uri());
                *request.uri_mut() = uri.parse::<Uri>().unwrap_or_default();
                let answer = client.request(request);
                async { Ok::<_, Infallible>(answer.await.unwrap_or_else(|error| panic!("{error}"))) }
            });
            drop(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await);
        });
    }
}
