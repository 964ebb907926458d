use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{Response, StatusCode};
use http_body::Body as HttpBody;
use hyper::upgrade::OnUpgrade;
use pin_project_lite::pin_project;
use tower::BoxError;

use super::{Connections, pump};
use crate::body::Body;
use crate::error::{Error, ErrorKind, polled_again};
use crate::headers;

pin_project! {
    /// The future of [`Upgrade`](super::Upgrade).
    #[derive(Debug)]
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<F> {
        #[pin]
        state: State<F>,
    }
}

pin_project! {
    #[derive(Debug)]
    #[project = StateProjection]
    enum State<F> {
        Accepted { answer: Option<Response<Body>> },
        CarriedAbove { #[pin] future: F },
        Called { #[pin] future: F, client: Option<OnUpgrade>, connections: Connections },
        Refused { error: Option<Error> },
    }
}

impl<F> ResponseFuture<F> {
    pub(super) const fn called(future: F, client: Option<OnUpgrade>, connections: Connections) -> Self {
        Self { state: State::Called { future, client, connections } }
    }

    pub(super) const fn carried_above(future: F) -> Self {
        Self { state: State::CarriedAbove { future } }
    }

    pub(super) const fn accepted(answer: Response<Body>) -> Self {
        Self { state: State::Accepted { answer: Some(answer) } }
    }

    pub(super) const fn refused(error: Error) -> Self {
        Self { state: State::Refused { error: Some(error) } }
    }
}

impl<F, ResBody, E> Future for ResponseFuture<F>
where
    F: Future<Output = Result<Response<ResBody>, E>>,
    E: Into<BoxError>,
    ResBody: HttpBody<Data = Bytes> + Send + 'static,
    ResBody::Error: Into<BoxError>,
{
    type Output = Result<Response<Body>, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Poll::Ready(match self.project().state.project() {
            StateProjection::Called { future, client, connections } => {
                let answer = ready!(future.poll(cx)).map_err(Into::into)?.map(Body::new);
                if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
                    Ok(switch(answer, client.take(), connections)?)
                } else {
                    Ok(answer)
                }
            }
            StateProjection::Accepted { answer } => answer.take().ok_or_else(polled_again),
            StateProjection::CarriedAbove { future } => Ok(ready!(future.poll(cx)).map_err(Into::into)?.map(Body::new)),
            StateProjection::Refused { error } => Err(error.take().map_or_else(polled_again, Into::into)),
        })
    }
}

/// Connects both sides. hyper gives them once the answer is written, so they are waited for elsewhere.
fn switch(
    mut answer: Response<Body>,
    client: Option<OnUpgrade>,
    connections: &Connections,
) -> Result<Response<Body>, Error> {
    let backend = answer.extensions_mut().remove::<OnUpgrade>();
    let (Some(client), Some(backend), true) = (client, backend, headers::names_websocket(answer.headers())) else {
        return Err(Error::new(
            ErrorKind::BackendFailed,
            "The backend switched to another protocol than was asked for.",
        ));
    };
    let (head, body) = answer.into_parts();
    tokio::spawn(pump::run(client, backend, body, connections.enter()));
    Ok(Response::from_parts(head, Body::empty()))
}
