//! Redis gone, back, emptied, hung, or never there; and what is shown of it.

use std::process::{Command, Stdio};

use crate::common::redis::{Answer, Redis};
use crate::{Member, SECOND, get, regular, start, until};
use std::time::Duration;

/// Until a server that is back has been tried again.
const SOON: Duration = Duration::from_secs(8);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_redis_trackers_go_on_say_so_and_fill_it_again() {
    let mut redis = Redis::start();
    let (one, two) = (Member::open(&redis).await, Member::open(&redis).await);
    one.announce(&regular(2000, 1)).await;
    two.announce(&regular(2001, 1)).await;
    for member in [&one, &two] {
        until("known to both", SECOND, async || {
            member.peers().await == [2000, 2001]
        })
        .await;
    }
    redis.kill();
    for member in [&one, &two] {
        until("said", SOON, async || member.word().await == "alone").await;
        assert_eq!(member.metric("store_connected").await, 0);
        assert_eq!(member.metric("store_lost_total").await, 1);
        assert_eq!(get(member.http(), "/readyz").await.status, 200);
        let page = get(member.http(), "/").await.text();
        assert!(page.contains("On its own"), "{page}");
    }
    // They go on from memory.
    one.announce(&regular(2002, 1)).await;
    assert_eq!(one.peers().await, [2000, 2001, 2002]);
    assert_eq!(two.peers().await, [2000, 2001]);

    redis.revive();
    until("found through the other", SOON, async || {
        two.peers().await == [2000, 2001, 2002]
    })
    .await;
    for member in [&one, &two] {
        until("said again", SOON, async || member.word().await == "shared").await;
    }
    let page = get(one.http(), "/").await.text();
    assert!(!page.contains("On its own"));
    // It was empty: what both knew is in it again.
    let three = Member::open(&redis).await;
    assert_eq!(three.peers().await, [2000, 2001, 2002]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_was_emptied_is_filled_again() {
    let redis = Redis::start();
    let one = Member::open(&redis).await;
    one.announce(&regular(2000, 1)).await;
    until("written", SECOND, async || {
        redis.say("XLEN spikeswarm:changes") != Answer::Number(0)
    })
    .await;
    redis.say("FLUSHALL");
    until("filled again", SOON + SOON, async || {
        redis.say("XLEN spikeswarm:changes") != Answer::Number(0)
    })
    .await;
    until("sharing", SOON, async || one.word().await == "shared").await;
    let two = Member::open(&redis).await;
    assert_eq!(two.peers().await, [2000]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_hangs_holds_nobody_up() {
    let redis = Redis::start();
    let one = Member::open(&redis).await;
    redis.signal("-STOP");
    let from = std::time::Instant::now();
    for port in 2000..2020 {
        one.announce(&regular(port, 1)).await;
    }
    assert!(from.elapsed() < SECOND, "{:?}", from.elapsed());
    until("said", 2 * SOON, async || one.word().await == "alone").await;
    // Nor does it a start, for long.
    let from = std::time::Instant::now();
    let two = Member::open(&redis).await;
    assert!(from.elapsed() < 4 * SECOND, "{:?}", from.elapsed());
    assert!(two.peers().await.is_empty());
    redis.signal("-CONT");
    until("caught up", 2 * SOON, async || {
        two.peers().await.len() == 20
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tracker_starts_without_redis_and_shares_once_it_is_there() {
    let mut redis = Redis::start();
    redis.kill();
    let from = std::time::Instant::now();
    let one = Member::open(&redis).await;
    assert!(from.elapsed() < SECOND, "{:?}", from.elapsed());
    assert_eq!(one.word().await, "alone");
    assert_eq!(get(one.http(), "/readyz").await.status, 200);
    one.announce(&regular(2000, 1)).await;
    assert_eq!(one.peers().await, [2000]);
    redis.revive();
    until("sharing", SOON, async || one.word().await == "shared").await;
    let two = Member::open(&redis).await;
    until("told again", SECOND, async || two.peers().await == [2000]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_store_nothing_is_said_of_one() {
    let (tracker, _shutdown) = start(crate::common::config()).await;
    let text = get(tracker.http_addr(), "/metrics").await.text();
    assert!(!text.contains("store_connected"), "{text}");
    let status = get(tracker.http_addr(), "/api/v1/status").await.text();
    assert!(status.contains(r#""store":"memory""#), "{status}");
    let page = get(tracker.http_addr(), "/").await.text();
    assert!(!page.contains("other trackers"), "{page}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t59_the_password_of_redis_opens_it_and_is_never_shown() {
    const CANARY: &str = "c4n4ry-s3cret";
    let redis = Redis::start_with(&["--requirepass", CANARY]);
    let run = |password: &str, args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_swarm-tracker"));
        let url = format!("redis://:{password}@{}", redis.addr);
        command
            .args(args)
            .env("SWARM_TRACKER_STORE", url)
            .env("RUST_LOG", "trace")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command.spawn().expect("it runs")
    };
    for (password, outcome) in [
        (CANARY, "store reached"),
        ("wr0ng-c4n4ry-s3cret", "store lost"),
    ] {
        let mut child = run(password, &["-vv", "run", "--open", "--http", "127.0.0.1:0"]);
        tokio::time::sleep(2 * SECOND).await;
        child.kill().expect("it is ours");
        let output = child.wait_with_output().expect("it ran");
        let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert!(text.contains(outcome), "{text}");
        assert!(!text.contains("c4n4ry"), "{text}");
    }
    for args in [&["run", "--help"][..], &["config", "show"]] {
        let output = run(CANARY, args).wait_with_output().expect("it ran");
        assert_eq!(output.status.code(), Some(0));
        let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert!(text.contains("store"), "{text}");
        assert!(!text.contains("c4n4ry"), "{text}");
    }
    // Nor where it is part of an error.
    let odd = format!("{CANARY}@h:port/#");
    let output = run(&odd, &["run"]).wait_with_output().expect("it ran");
    assert_eq!(output.status.code(), Some(78));
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(text.contains("store"), "{text}");
    assert!(!text.contains("c4n4ry"), "{text}");
}
