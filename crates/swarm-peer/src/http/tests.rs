mod certificates;
mod inside;

use super::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

const SECOND: Duration = Duration::from_secs(1);

/// A server that answers every connection with the same bytes, then stays silent or closes.
async fn answering(bytes: &'static [u8], close: bool) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let mut open = Vec::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = [0; 4096];
            let _ = stream.read(&mut request).await;
            let _ = stream.write_all(bytes).await;
            if !close {
                open.push(stream);
            }
        }
    });
    format!("http://{addr}/x?y=z")
}

fn client() -> HttpClient {
    HttpClient::new(AddressPolicy::default()).unwrap()
}

#[tokio::test]
async fn an_answer_arrives_whole_with_its_address() {
    let url = answering(b"HTTP/1.1 404 No\r\nContent-Length: 5\r\n\r\nhello", true).await;
    let answer = client()
        .get(&url, 5, SECOND, Trust::CommandLine)
        .await
        .unwrap();
    assert_eq!(answer.status, StatusCode::NOT_FOUND);
    assert_eq!(&answer.body[..], b"hello");
    assert_eq!(answer.remote, Some("127.0.0.1".parse().unwrap()));
}

#[tokio::test]
async fn a_body_past_its_cap_is_refused() {
    for head in [
        &b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhello!"[..],
        b"HTTP/1.1 200 OK\r\n\r\nhello!",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nhello!\r\n",
    ] {
        let url = answering(head, true).await;
        let refused = client().get(&url, 5, SECOND, Trust::CommandLine).await;
        assert!(
            matches!(refused, Err(HttpError::TooLarge { cap: 5, .. })),
            "{refused:?}"
        );
    }
}

#[tokio::test]
async fn a_server_that_never_ends_is_left_at_the_deadline() {
    let url = answering(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhel", false).await;
    let deadline = Duration::from_millis(200);
    let refused = client().get(&url, 100, deadline, Trust::CommandLine).await;
    assert!(
        matches!(refused, Err(HttpError::TimedOut { .. })),
        "{refused:?}"
    );
}

#[tokio::test]
async fn t6_a_server_that_trickles_is_left_at_the_deadline() {
    for head in [
        &b"HTTP/1.1 200 OK\r\n\r\n"[..],
        b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: ",
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 4096];
            let _ = stream.read(&mut request).await;
            let _ = stream.write_all(head).await;
            while stream.write_all(b"a").await.is_ok() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
        let deadline = Duration::from_millis(300);
        let client = client();
        let fetch = client.get(&url, 1_000_000, deadline, Trust::CommandLine);
        let refused = tokio::time::timeout(Duration::from_secs(10), fetch)
            .await
            .expect("the deadline is for all of a fetch, not for each read");
        assert!(
            matches!(refused, Err(HttpError::TimedOut { .. })),
            "{refused:?}"
        );
    }
}

#[tokio::test]
async fn strangers_and_odd_urls_are_refused() {
    let url = answering(b"HTTP/1.1 200 OK\r\n\r\n", true).await;
    let refused = client().get(&url, 5, SECOND, Trust::Stranger).await;
    assert!(
        matches!(refused, Err(HttpError::Connect(ConnectError::Refused(_)))),
        "{refused:?}"
    );
    for odd in [
        "",
        "ftp://x/",
        "http://",
        "http://me:pw@host/",
        "file:///etc/passwd",
    ] {
        let refused = client().get(odd, 5, SECOND, Trust::CommandLine).await;
        assert!(
            matches!(refused, Err(HttpError::BadUrl(_))),
            "{odd}: {refused:?}"
        );
    }
}

#[tokio::test]
async fn a_redirect_in_circles_ends() {
    let url = answering(
        b"HTTP/1.1 302 Found\r\nLocation: /again\r\nContent-Length: 0\r\n\r\n",
        true,
    )
    .await;
    let refused = client().get(&url, 5, SECOND, Trust::CommandLine).await;
    assert!(
        matches!(refused, Err(HttpError::RedirectLoop(_))),
        "{refused:?}"
    );
}
