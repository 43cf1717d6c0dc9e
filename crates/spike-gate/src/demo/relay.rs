//! Puts a listener that knows no [`Uplink`] behind one: what it sends leaves at the host's rate.

use swarm_peer::uplink::{Shaped, Uplink};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use std::net::SocketAddr;

/// Passes connections on from `listener` to `inner` until `shutdown`.
pub(super) async fn relay(
    listener: TcpListener,
    inner: SocketAddr,
    uplink: Uplink,
    shutdown: CancellationToken,
) {
    loop {
        let stream = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::debug!(%error, "relay could not accept");
                    continue;
                }
            },
            () = shutdown.cancelled() => return,
        };
        let (uplink, shutdown) = (uplink.clone(), shutdown.clone());
        tokio::spawn(async move {
            let pass = async {
                let mut behind = TcpStream::connect(inner).await?;
                let _ = (stream.set_nodelay(true), behind.set_nodelay(true));
                copy_bidirectional(&mut Shaped::new(stream, uplink), &mut behind).await
            };
            tokio::select! {
                ended = pass => if let Err(error) = ended {
                    tracing::trace!(%error, "relayed connection broke");
                },
                () = shutdown.cancelled() => {}
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[tokio::test]
    async fn what_comes_back_is_counted_and_whole() {
        let inner = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let outer = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (inner_addr, outer_addr) = (inner.local_addr().unwrap(), outer.local_addr().unwrap());
        let uplink = Uplink::new(80_000_000);
        let stop = CancellationToken::new();
        tokio::spawn(relay(outer, inner_addr, uplink.clone(), stop.clone()));
        tokio::spawn(async move {
            let (mut stream, _) = inner.accept().await.unwrap();
            let mut asked = [0; 5];
            stream.read_exact(&mut asked).await.unwrap();
            stream.write_all(&vec![asked[0]; 100_000]).await.unwrap();
        });
        let mut client = TcpStream::connect(outer_addr).await.unwrap();
        client.write_all(b"hello").await.unwrap();
        let mut all = Vec::new();
        client.read_to_end(&mut all).await.unwrap();
        assert_eq!(all, vec![b'h'; 100_000]);
        assert_eq!(uplink.sent_total(), 100_000);
        stop.cancel();
    }
}
