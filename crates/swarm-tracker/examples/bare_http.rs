//! What HTTP by itself costs: hyper on one thread, which answers whatever is asked with the same
//! bytes, as many as an announce reply of fifty peers has. `bench/tracker` holds the tracker
//! against it.

use std::convert::Infallible;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

/// Head of the dictionary, and fifty peers of six bytes.
const BODY_LEN: usize = 70 + 50 * 6;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let addr = std::env::args().nth(1).ok_or("usage: bare_http ADDR")?;
    let listener = TcpListener::bind(addr).await?;
    let body = Bytes::from(vec![b'x'; BODY_LEN]);
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let body = body.clone();
        tokio::spawn(async move {
            let answer = service_fn(move |_: Request<Incoming>| {
                let reply = Response::new(Full::new(body.clone()));
                async move { Ok::<_, Infallible>(reply) }
            });
            // Whoever goes away is done.
            let _ = http1::Builder::new()
                .serve_connection(TokioIo::new(stream), answer)
                .await;
        });
    }
}
