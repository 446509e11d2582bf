//! Connections and answers.

use std::convert::Infallible;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt as _;
use http::{Request, Response, StatusCode};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::fault::{Canned, Then};
use super::world::World;

type Body = BoxBody<Bytes, io::Error>;

pub(super) async fn serve(
    listener: TcpListener,
    tls: Option<Arc<rustls::ServerConfig>>,
    world: Arc<Mutex<World>>,
    stop: CancellationToken,
) {
    let tls = tls.map(TlsAcceptor::from);
    while let Some(Ok((stream, _))) = stop.run_until_cancelled(listener.accept()).await {
        let (tls, world, stop) = (tls.clone(), Arc::clone(&world), stop.clone());
        tokio::spawn(async move {
            stop.run_until_cancelled(connection(stream, tls, world))
                .await
        });
    }
}

/// Serves one connection. How it ends is the platform's affair.
async fn connection(stream: TcpStream, tls: Option<TlsAcceptor>, world: Arc<Mutex<World>>) {
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request| answer(request, Arc::clone(&world)));
    match tls {
        None => {
            let _ = http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        }
        Some(tls) => {
            let Ok(stream) = tls.accept(stream).await else {
                return;
            };
            let builder = auto::Builder::new(TokioExecutor::new());
            let _ = builder
                .serve_connection(TokioIo::new(stream), service)
                .await;
        }
    }
}

/// An `Err` ends the connection without an answer.
async fn answer(
    request: Request<Incoming>,
    world: Arc<Mutex<World>>,
) -> Result<Response<Body>, io::Error> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
    let (wait, then, usual) = world.lock().expect("no holder panics").handle(head, body);
    if !wait.is_zero() {
        tokio::time::sleep(wait).await;
    }
    match then {
        Then::Usual => Ok(whole(usual)),
        Then::Say(canned) => Ok(whole(canned)),
        Then::Drop => Err(io::Error::other("dropped on purpose")),
        Then::Hang => std::future::pending().await,
        Then::Half => Ok(half(usual)),
        Then::Drip(each) => Ok(drip(usual, each)),
    }
}

fn response(canned: &Canned, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    // A test may ask for any three digits.
    *response.status_mut() = StatusCode::from_u16(canned.status).expect("a status has 3 digits");
    for (name, value) in &canned.headers {
        let value = value.parse().expect("a test's header value is one");
        response.headers_mut().insert(*name, value);
    }
    response
}

fn whole(canned: Canned) -> Response<Body> {
    let body = Full::new(Bytes::from(canned.body.clone()));
    response(
        &canned,
        body.map_err(|never: Infallible| match never {}).boxed(),
    )
}

fn half(mut canned: Canned) -> Response<Body> {
    canned
        .headers
        .push(("content-length", canned.body.len().to_string()));
    let first = Bytes::copy_from_slice(&canned.body[..canned.body.len() / 2]);
    let end = io::Error::other("cut on purpose");
    // The end comes late enough for the first half to be on its way.
    let frames = futures::stream::iter([Ok(Frame::data(first)), Err(end)]).then(|frame| async {
        if frame.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        frame
    });
    response(&canned, BodyExt::boxed(StreamBody::new(frames)))
}

fn drip(canned: Canned, each: Duration) -> Response<Body> {
    let bytes = canned.body.clone();
    let frames = futures::stream::iter(bytes).then(move |byte| async move {
        tokio::time::sleep(each).await;
        Ok(Frame::data(Bytes::copy_from_slice(&[byte])))
    });
    response(&canned, BodyExt::boxed(StreamBody::new(frames)))
}
