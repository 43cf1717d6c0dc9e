//! What is asked of the Redis server, key by key (spec 0006, 9.1).

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, Pipeline, RedisResult, Value, cmd, pipe};
use swarm_proto::id::SwarmId;
use swarm_proto::manifest::SiteName;

use super::codec::{self, Writer};
use crate::app::App;
use crate::config::RedisUrl;
use crate::registry::shared::{Change, Changes};

/// The log of changes, a stream; each entry has one field, [`FIELD`].
const CHANGES: &str = "spikeswarm:changes";
const FIELD: &str = "c";
/// Which life of the server this is: gone when it has lost what was written.
const EPOCH: &str = "spikeswarm:epoch";
/// Who is barred, a sorted set; scores are when that ends, in milliseconds of Unix time.
const BARRED: &str = "spikeswarm:barred";
/// Completed downloads by swarm, a hash.
const COMPLETED: &str = "spikeswarm:completed";
/// Record and alarm of a site, a hash for each, by its label.
const SITE: &str = "spikeswarm:site:";
const RECORD: &str = "record";
const ALARM: &str = "alarm";

/// Time to reach the server, and for its answers: a record may have 32 MB.
const REACH: Duration = Duration::from_secs(2);
const ANSWER: Duration = Duration::from_secs(5);
/// Entries read at a time, of 512 KiB at most.
pub(super) const READ: usize = 16;
/// Who is barred, at most; three for each liar.
const BARRED_MAX: isize = 65_536;
const PAGE: usize = 1000;
/// Swarms whose completed downloads are counted in the store, some 100 bytes each there.
const COMPLETED_MAX: u64 = 1_000_000;
/// Entries are kept that much longer than a peer is remembered.
const SPARE: Duration = Duration::from_secs(10);

/// Where an entry is in the log: milliseconds of Unix time by the server's clock, and a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct EntryId {
    ms: u64,
    number: u64,
}

impl fmt::Display for EntryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.ms, self.number)
    }
}

impl EntryId {
    fn parse(text: &[u8]) -> Option<Self> {
        let (ms, number) = std::str::from_utf8(text).ok()?.split_once('-')?;
        Some(Self {
            ms: ms.parse().ok()?,
            number: number.parse().ok()?,
        })
    }
}

/// An entry that was read.
#[derive(Debug)]
pub(super) struct Read {
    pub(super) id: EntryId,
    /// `None`: it has not the one field that it should have.
    pub(super) payload: Option<Vec<u8>>,
}

/// Fields of a hash, and what is in them.
type Fields = Vec<(Vec<u8>, Vec<u8>)>;

/// The server, for as long as it answers.
pub(super) struct Link {
    app: Arc<App>,
    commands: MultiplexedConnection,
    /// Where reads wait; nothing else could be asked there meanwhile.
    reads: MultiplexedConnection,
    /// What the server's clock said when this tracker was made, in milliseconds.
    zero: AtomicU64,
    /// Swarms in [`COMPLETED`].
    counted: AtomicU64,
}

impl Link {
    pub(super) async fn open(url: &RedisUrl, app: Arc<App>) -> RedisResult<Self> {
        let client = Client::open(url.secret())?;
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(REACH))
            .set_response_timeout(Some(ANSWER));
        let connect = || client.get_multiplexed_async_connection_with_config(&config);
        Ok(Self {
            app,
            commands: connect().await?,
            reads: connect().await?,
            zero: AtomicU64::new(0),
            counted: AtomicU64::new(0),
        })
    }

    /// Which life of the server this is; what its clock says is noted, too.
    pub(super) async fn epoch(&self) -> RedisResult<Vec<u8>> {
        let new: [u8; 16] = rand::random();
        let mut asked = pipe();
        asked.cmd("SETNX").arg(EPOCH).arg(&new[..]).ignore();
        asked.cmd("GET").arg(EPOCH);
        asked.cmd("TIME");
        asked.cmd("HLEN").arg(COMPLETED);
        let mut to = self.commands.clone();
        let (epoch, (secs, micros), counted): (Vec<u8>, (u64, u64), u64) =
            asked.query_async(&mut to).await?;
        let ms = secs.saturating_mul(1000).saturating_add(micros / 1000);
        let elapsed = self.elapsed();
        self.zero
            .store(ms.saturating_sub(elapsed), Ordering::Relaxed);
        self.counted.store(counted, Ordering::Relaxed);
        Ok(epoch)
    }

    fn elapsed(&self) -> u64 {
        u64::try_from(self.app.now().elapsed.as_millis()).unwrap_or(u64::MAX)
    }

    /// Milliseconds of Unix time, by the server's clock.
    fn now(&self) -> u64 {
        let zero = self.zero.load(Ordering::Relaxed);
        zero.saturating_add(self.elapsed())
    }

    /// Where those entries begin that are no older than this.
    pub(super) fn since(&self, age: Duration) -> EntryId {
        EntryId {
            ms: self.now().saturating_sub(millis(age)),
            number: 0,
        }
    }

    /// How long ago an entry was written.
    pub(super) fn ago(&self, id: EntryId) -> Duration {
        Duration::from_millis(self.now().saturating_sub(id.ms))
    }

    /// The next entries after `last`. Where there are none it waits for one as long as it is told.
    pub(super) async fn read(
        &self,
        last: EntryId,
        wait: Option<Duration>,
    ) -> RedisResult<Vec<Read>> {
        let mut asked = cmd("XREAD");
        asked.arg("COUNT").arg(READ);
        if let Some(wait) = wait {
            asked.arg("BLOCK").arg(millis(wait));
        }
        asked.arg("STREAMS").arg(CHANGES).arg(last.to_string());
        let answer: Value = asked.query_async(&mut self.reads.clone()).await?;
        Ok(entries(answer))
    }

    /// Writes changes; and, where no figure is there yet, how many downloads were `completed`.
    pub(super) async fn write(
        &self,
        writer: &Writer,
        mut changes: Changes,
        completed: &[(SwarmId, u32)],
    ) -> RedisResult<()> {
        let mut asked = pipe();
        let room = self.counted.load(Ordering::Relaxed) < COMPLETED_MAX;
        if room {
            for said in changes.peers.iter().filter(|said| said.completed) {
                let id = said.swarm.as_bytes().as_slice();
                asked.cmd("HINCRBY").arg(COMPLETED).arg(id).arg(1).ignore();
            }
            for (swarm, count) in completed {
                let id = swarm.as_bytes().as_slice();
                let asked = asked.cmd("HSETNX").arg(COMPLETED).arg(id);
                asked.arg(*count).ignore();
            }
        }
        let mut barred = false;
        for change in &changes.others {
            if let Change::Barred(barring) = change {
                barred = true;
                let left = u64::from(barring.left).saturating_mul(1000);
                let until = self.now().saturating_add(left);
                let asked = asked.cmd("ZADD").arg(BARRED).arg("GT").arg(until);
                asked.arg(codec::encode_barring(barring)).ignore();
            }
        }
        if barred {
            let asked = asked.cmd("ZREMRANGEBYRANK").arg(BARRED).arg(0);
            asked.arg(-BARRED_MAX - 1).ignore();
        }
        for entry in codec::encode(writer, &mut changes.peers, &changes.others) {
            self.append(&mut asked, &entry);
        }
        self.send(&asked).await
    }

    /// Adds an entry to the log, and drops those that are of no use to anybody any more.
    fn append(&self, asked: &mut Pipeline, entry: &[u8]) {
        let oldest = self.since(self.app.peer_age.saturating_add(SPARE));
        let asked = asked.cmd("XADD").arg(CHANGES).arg("MINID").arg("~");
        asked.arg(oldest.ms).arg("*").arg(FIELD).arg(entry).ignore();
    }

    async fn send(&self, asked: &Pipeline) -> RedisResult<()> {
        if asked.is_empty() {
            return Ok(());
        }
        asked.query_async(&mut self.commands.clone()).await
    }

    /// Who is barred, and for how long.
    pub(super) async fn barrings(&self) -> RedisResult<Vec<(Vec<u8>, Duration)>> {
        let mut all = Vec::new();
        loop {
            let now = self.now();
            let mut asked = pipe();
            asked
                .cmd("ZREMRANGEBYSCORE")
                .arg(BARRED)
                .arg("-inf")
                .arg(now)
                .ignore();
            let page = asked.cmd("ZRANGE").arg(BARRED).arg(all.len());
            page.arg(all.len() + PAGE - 1).arg("WITHSCORES");
            let mut to = self.commands.clone();
            let (some,): (Vec<(Vec<u8>, f64)>,) = asked.query_async(&mut to).await?;
            let count = some.len();
            // Scores are whole numbers far below 2^53, unless somebody else has set them.
            let left = |until: f64| Duration::from_millis((until as u64).saturating_sub(now));
            all.extend(some.into_iter().map(|(bytes, until)| (bytes, left(until))));
            if count < PAGE || all.len() > BARRED_MAX.unsigned_abs() {
                return Ok(all);
            }
        }
    }

    /// Completed downloads, some swarms at a time, from `cursor` on, which is 0 first and last.
    pub(super) async fn completed(&self, cursor: u64) -> RedisResult<(u64, Vec<(SwarmId, u32)>)> {
        let mut asked = cmd("HSCAN");
        asked.arg(COMPLETED).arg(cursor).arg("COUNT").arg(PAGE);
        let mut to = self.commands.clone();
        let (cursor, some): (u64, Fields) = asked.query_async(&mut to).await?;
        let read = |(id, count): (Vec<u8>, Vec<u8>)| {
            let count: u64 = std::str::from_utf8(&count).ok()?.parse().ok()?;
            let id = SwarmId::new(id.try_into().ok()?);
            Some((id, u32::try_from(count).unwrap_or(u32::MAX)))
        };
        Ok((cursor, some.into_iter().filter_map(read).collect()))
    }

    /// The record of a site.
    pub(super) async fn record(&self, site: &SiteName) -> RedisResult<Option<Vec<u8>>> {
        let mut asked = cmd("HGET");
        asked.arg(site_key(site)).arg(RECORD);
        asked.query_async(&mut self.commands.clone()).await
    }

    /// The newest alarm of a site.
    pub(super) async fn alarm(&self, site: &SiteName) -> RedisResult<Option<Vec<u8>>> {
        let mut asked = cmd("HGET");
        asked.arg(site_key(site)).arg(ALARM);
        asked.query_async(&mut self.commands.clone()).await
    }

    /// Puts a site's record or alarm in the place of what is there.
    pub(super) async fn put_site(
        &self,
        site: &SiteName,
        record: Option<&[u8]>,
        alarm: Option<&[u8]>,
    ) -> RedisResult<()> {
        let mut asked = pipe();
        for (field, value) in [(RECORD, record), (ALARM, alarm)] {
            if let Some(value) = value {
                let asked = asked.cmd("HSET").arg(site_key(site));
                asked.arg(field).arg(value).ignore();
            }
        }
        self.send(&asked).await
    }
}

fn site_key(site: &SiteName) -> String {
    format!("{SITE}{}", site.label())
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn array(value: Value) -> Vec<Value> {
    match value {
        Value::Array(values) => values,
        _ => Vec::new(),
    }
}

/// The entries of an answer to `XREAD`: `[[key, [[id, [field, value, …]], …]]]`. By hand, since the
/// library gives up where any field's name is no text.
fn entries(answer: Value) -> Vec<Read> {
    let streams = array(answer).into_iter();
    let entries = streams.flat_map(|stream| array(stream).into_iter().skip(1).flat_map(array));
    entries
        .filter_map(|entry| {
            let mut parts = array(entry).into_iter();
            let id = match parts.next()? {
                Value::BulkString(id) => EntryId::parse(&id)?,
                _ => return None,
            };
            let mut fields = array(parts.next()?).into_iter();
            let payload = match (fields.next(), fields.next(), fields.next()) {
                (Some(Value::BulkString(name)), Some(Value::BulkString(value)), None) => {
                    (name == FIELD.as_bytes()).then_some(value)
                }
                _ => None,
            };
            Some(Read { id, payload })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Value {
        Value::BulkString(text.into())
    }

    fn entry(id: &str, fields: &[&str]) -> Value {
        let fields = fields.iter().map(|field| text(field)).collect();
        Value::Array(vec![text(id), Value::Array(fields)])
    }

    #[test]
    fn entries_are_read_whatever_their_fields_are() {
        let all = vec![
            entry("5-0", &["c", "first"]),
            entry("5-1", &["x", "other field"]),
            entry("6-0", &["c", "one", "d", "two"]),
            entry("7-0", &[]),
            entry("no id", &["c", "x"]),
            Value::Nil,
            entry("8-12", &["c", ""]),
        ];
        let answer = Value::Array(vec![Value::Array(vec![text(CHANGES), Value::Array(all)])]);
        let read: Vec<(String, Option<Vec<u8>>)> = entries(answer)
            .into_iter()
            .map(|read| (read.id.to_string(), read.payload))
            .collect();
        let wanted = [
            ("5-0", Some("first")),
            ("5-1", None),
            ("6-0", None),
            ("7-0", None),
            ("8-12", Some("")),
        ];
        let wanted: Vec<_> = wanted
            .iter()
            .map(|(id, payload)| (id.to_string(), payload.map(|p| p.as_bytes().to_vec())))
            .collect();
        assert_eq!(read, wanted);
        for nothing in [Value::Nil, Value::Okay, Value::Array(Vec::new())] {
            assert!(entries(nothing).is_empty());
        }
    }
}
