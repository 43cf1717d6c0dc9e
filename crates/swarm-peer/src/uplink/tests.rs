use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use std::time::Duration;

use super::*;
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::Instant;

#[test]
fn rates_are_read_in_their_usual_spellings() {
    for (text, bits) in [
        ("8Mbit", 8_000_000),
        ("500kbit", 500_000),
        ("1.5Gbit", 1_500_000_000),
        ("2MB/s", 16_000_000),
        ("20 Mbit/s", 20_000_000),
        ("20Mbps", 20_000_000),
        ("1000", 1000),
        ("5MiB/s", 5 * 1024 * 1024 * 8),
        ("512KiB/s", 512 * 1024 * 8),
        ("8Mibit", 8 * 1024 * 1024),
    ] {
        assert_eq!(parse_rate(text), Ok(bits), "{text}");
    }
    for text in ["", "fast", "8Qbit", "-1Mbit", "0", "1..2Mbit", "1e99Gbit"] {
        assert!(parse_rate(text).is_err(), "{text}");
    }
}

#[tokio::test]
async fn writers_share_the_rate_fairly() {
    let uplink = Uplink::new(8_000_000);
    let started = Instant::now();
    let send = |uplink: Uplink| async move {
        let (near, mut far) = tokio::io::duplex(64 * 1024);
        let mut shaped = Shaped::new(near, uplink);
        let reader = tokio::spawn(async move {
            let mut all = Vec::new();
            far.read_to_end(&mut all).await.map(|_| all.len())
        });
        shaped.write_all(&vec![7; 250_000]).await.unwrap();
        drop(shaped);
        (reader.await.unwrap().unwrap(), started.elapsed())
    };
    let ((a, a_took), (b, b_took)) = tokio::join!(send(uplink.clone()), send(uplink.clone()));
    assert_eq!((a, b), (250_000, 250_000));
    assert_eq!(uplink.sent_total(), 500_000);
    let took = a_took.max(b_took).as_secs_f64();
    assert!(
        (0.45..0.8).contains(&took),
        "half a megabyte at 1 MB/s took {took}"
    );
    let apart = (a_took.as_secs_f64() - b_took.as_secs_f64()).abs();
    assert!(apart < 0.15, "one writer ended {apart} s after the other");
}

#[tokio::test]
async fn who_gives_up_waiting_leaves_the_line_to_others() {
    let uplink = Uplink::new(8_000_000);
    let started = Instant::now();
    let crowd: Vec<_> = (0..500)
        .map(|_| {
            let uplink = uplink.clone();
            tokio::spawn(async move { uplink.take(16_000).await })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(100)).await;
    for visitor in crowd {
        visitor.abort();
    }
    tokio::time::timeout(Duration::from_secs(2), uplink.take(100_000))
        .await
        .expect("the line is free again");
    let rate = uplink.sent_total() as f64 / started.elapsed().as_secs_f64();
    assert!(
        (800_000.0..1_250_000.0).contains(&rate),
        "{rate} bytes a second"
    );
    assert_eq!(uplink.shared.waiting(), 0);
}

#[tokio::test]
async fn a_writer_that_forgets_its_turn_holds_up_nobody() {
    let uplink = Uplink::new(8_000_000);
    let (near, _far) = tokio::io::duplex(1024);
    let mut forgetful = Shaped::new(near, uplink.clone());
    let once = std::future::poll_fn(|cx| {
        let _ = Pin::new(&mut forgetful).poll_write(cx, &[0; 5000]);
        Poll::Ready(())
    });
    once.await;
    tokio::time::timeout(Duration::from_secs(1), uplink.take(10_000))
        .await
        .expect("others are served");
    uplink.set_rate(None);
    tokio::time::timeout(Duration::from_millis(50), uplink.take(1_000_000))
        .await
        .expect("no limit, no wait");
    uplink.set_rate(Some(8_000_000));
    tokio::time::timeout(Duration::from_secs(1), uplink.take(10_000))
        .await
        .expect("served again");
}

#[tokio::test]
async fn lifting_the_limit_lets_all_go() {
    let uplink = Uplink::new(80_000);
    let waiting: Vec<_> = (0..50)
        .map(|_| {
            let uplink = uplink.clone();
            tokio::spawn(async move { uplink.take(10_000).await })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(20)).await;
    uplink.set_rate(None);
    for writer in waiting {
        tokio::time::timeout(Duration::from_secs(1), writer)
            .await
            .expect("goes at once")
            .expect("does not panic");
    }
}

#[tokio::test]
async fn lanes_share_by_weight_and_use_what_others_leave() {
    let uplink = Uplink::new(8_000_000);
    let heavy = uplink.lane(1.0);
    uplink.set_weight(3.0);
    let busy = |uplink: Uplink, writers: usize| {
        let sent = Arc::new(AtomicU64::new(0));
        let tasks: Vec<_> = (0..writers)
            .map(|_| {
                let (uplink, sent) = (uplink.clone(), sent.clone());
                tokio::spawn(async move {
                    loop {
                        uplink.take(1000).await;
                        sent.fetch_add(1000, Ordering::Relaxed);
                    }
                })
            })
            .collect();
        (sent, tasks)
    };
    let (light_sent, light_tasks) = busy(uplink.clone(), 20);
    let (heavy_sent, heavy_tasks) = busy(heavy, 50);
    tokio::time::sleep(Duration::from_millis(600)).await;
    let (light, heavy) = (
        light_sent.load(Ordering::Relaxed) as f64,
        heavy_sent.load(Ordering::Relaxed) as f64,
    );
    assert!((2.4..3.6).contains(&(light / heavy)), "{light} to {heavy}");
    light_tasks.iter().for_each(tokio::task::JoinHandle::abort);
    tokio::time::sleep(Duration::from_millis(400)).await;
    let rate = (heavy_sent.load(Ordering::Relaxed) as f64 - heavy) / 0.4;
    assert!((850_000.0..1_150_000.0).contains(&rate), "{rate} alone");
    heavy_tasks.iter().for_each(tokio::task::JoinHandle::abort);
}

#[tokio::test]
async fn a_switched_stream_goes_by_the_lane_chosen_last() {
    let uplink = Uplink::new(8_000_000);
    let slow = uplink.lane(0.01);
    let switch = LaneSwitch::default();
    let (near, _far) = tokio::io::duplex(1 << 20);
    let mut stream = Shaped::switched(near, uplink.clone(), slow.clone(), switch.clone());
    for _ in 0..10 {
        let uplink = uplink.clone();
        tokio::spawn(async move { uplink.take(10_000_000).await });
    }
    stream.write_all(&[0; 20_000]).await.unwrap();
    switch.second(true);
    let late = tokio::time::timeout(Duration::from_millis(500), stream.write_all(&[0; 20_000]));
    assert!(late.await.is_err(), "the slow lane has a hundredth");
}

#[tokio::test]
async fn a_short_answer_waits_for_one_round_only() {
    let uplink = Uplink::new(8_000_000);
    for _ in 0..20 {
        let uplink = uplink.clone();
        tokio::spawn(async move { uplink.take(1_000_000).await });
    }
    tokio::time::sleep(Duration::from_millis(50)).await;
    let started = Instant::now();
    uplink.take(300).await;
    let took = started.elapsed();
    assert!(took < Duration::from_millis(120), "took {took:?}");
}

#[tokio::test]
async fn an_idle_uplink_saves_up_no_more_than_its_burst() {
    let uplink = Uplink::new(800_000);
    uplink.take(1000).await;
    tokio::time::sleep(Duration::from_millis(400)).await;
    let started = Instant::now();
    uplink.take(30_000).await;
    let took = started.elapsed();
    assert!(took > Duration::from_millis(270), "took {took:?}");
}
