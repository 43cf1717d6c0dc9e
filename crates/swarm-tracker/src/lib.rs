//! A BitTorrent tracker that also knows which sites are in need, and where to send their visitors.
//!
//! Announce and scrape over HTTP, HTTPS, UDP and WebSocket are spec 0005; alarms, volunteer bridges and the redirector are
//! spec 0006. [`registry`] decides, [`Tracker`] drives it with sockets, clock and disk.
//! Several trackers share what they know by a Redis server (spec 0006, 9).

#![cfg_attr(not(test), warn(clippy::unwrap_used))]

mod acme;
mod app;
mod budget;
mod call;
pub mod config;
mod history;
mod listen;
mod metrics;
mod operator;
pub mod registry;
mod state;
mod status;
mod store;
mod tls;

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use swarm_proto::manifest::{PublicKey, SiteName};
use swarm_proto::tracker::{BridgeView, SitesReply};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use acme::Certificates;
pub use acme::{AcmeError, WantRefused};
use app::App;
pub use app::{AlarmRefused, RegisterRefused};
use config::CertificateName;
pub use config::{ConfigError, TrackerConfig};
use listen::Listener;
use listen::udp::UdpListener;
use operator::Operator;
pub use operator::OperatorError;
pub use registry::Totals;
pub use state::StateError;
use tls::Certificate;
pub use tls::CertificateError;

/// Why a tracker does not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrackerError {
    /// The configuration contradicts itself.
    #[error("bad configuration: {0}")]
    Config(#[from] ConfigError),
    /// An address cannot be listened on: in use, not ours, not allowed.
    #[error("cannot listen on {addr}: {source}")]
    Bind {
        /// The address asked for.
        addr: SocketAddr,
        /// The operating system's reason.
        source: io::Error,
    },
    /// A socket that was handed over cannot be used.
    #[error("cannot listen on a socket that was handed over: {0}")]
    Socket(#[source] io::Error),
    /// The certificate cannot be used.
    #[error("certificate: {0}")]
    Certificate(#[from] CertificateError),
    /// The tracker cannot get certificates itself.
    #[error("acme: {0}")]
    Acme(#[from] AcmeError),
    /// HTTPS is not to be had on this machine.
    #[error("TLS: {0}")]
    Tls(#[source] rustls::Error),
    /// The state directory cannot be used.
    #[error(transparent)]
    State(#[from] StateError),
    /// Sites that consent cannot be carried.
    #[error(transparent)]
    Operator(#[from] OperatorError),
}

/// Sockets that somebody else has opened for the tracker, as systemd does. Where there are any of a
/// kind, none of that kind is opened.
#[derive(Debug, Default)]
pub struct Sockets {
    /// For HTTP, listening.
    pub http: Vec<std::net::TcpListener>,
    /// For UDP, bound.
    pub udp: Vec<std::net::UdpSocket>,
}

/// Starts trackers.
#[derive(Debug)]
pub struct Tracker;

impl Tracker {
    /// Opens the state, listens, and answers until `shutdown` is cancelled. Needs a Tokio
    /// runtime.
    ///
    /// # Errors
    /// [`TrackerError`]; nothing is left running then.
    pub async fn start(
        config: TrackerConfig,
        shutdown: CancellationToken,
    ) -> Result<TrackerHandle, TrackerError> {
        Self::start_on(Sockets::default(), config, shutdown).await
    }

    /// As [`start`](Self::start), on sockets that are open already.
    ///
    /// # Errors
    /// [`TrackerError`]; nothing is left running then.
    pub async fn start_on(
        sockets: Sockets,
        config: TrackerConfig,
        shutdown: CancellationToken,
    ) -> Result<TrackerHandle, TrackerError> {
        Self::starting(sockets, config, shutdown).await
    }

    /// In a box, so that all of a tracker is compiled here, and not once more in each program that
    /// starts one.
    fn starting(
        sockets: Sockets,
        config: TrackerConfig,
        shutdown: CancellationToken,
    ) -> Pin<Box<dyn Future<Output = Result<TrackerHandle, TrackerError>> + Send>> {
        Box::pin(Self::listen_on(sockets, config, shutdown))
    }

    async fn listen_on(
        sockets: Sockets,
        config: TrackerConfig,
        shutdown: CancellationToken,
    ) -> Result<TrackerHandle, TrackerError> {
        config.check()?;
        let mut listeners = Vec::with_capacity(config.http.len());
        let mut asked = config.http.clone();
        if sockets.http.is_empty() {
            for addr in &asked {
                listeners.push(bind(*addr).await?);
            }
        } else {
            asked.clear();
            for socket in sockets.http {
                let (listener, addr) = adopt(socket).map_err(TrackerError::Socket)?;
                listeners.push(listener);
                asked.push(addr);
            }
        }
        let addrs = addresses(&listeners, &asked);
        let tls = config.tls.clone();
        let opened = tokio::task::spawn_blocking(|| tls.map(Certificate::open).transpose());
        let certificate = opened
            .await
            .expect("reading a certificate does not panic and is not cancelled")?;
        let mut secure = Vec::with_capacity(config.https.len());
        for addr in &config.https {
            secure.push(bind(*addr).await?);
        }
        let https_addrs = addresses(&secure, &config.https);
        let udp = if sockets.udp.is_empty() {
            bind_udp(&config, &addrs, &asked)?
        } else {
            let adopted = sockets.udp.into_iter().map(UdpListener::adopt);
            let adopted: io::Result<_> = adopted.collect();
            adopted.map_err(TrackerError::Socket)?
        };
        let udp_addrs = udp.iter().map(UdpListener::addr).collect();
        let (drain, token) = (config.drain, shutdown.clone());
        // The last that can fail, but for the state: whatever it leaves running ends with this.
        let seed = shutdown.child_token();
        let operator = match (config.operator.clone(), &config.state) {
            (Some(operator), Some(state)) => {
                let secure = config.acme.as_ref().is_some_and(|acme| acme.sites);
                Some(Operator::start(operator, state, secure, seed.clone()).await?)
            }
            _ => None,
        };
        let files = certificate.clone();
        let app = tokio::task::spawn_blocking(move || open(&config, files, token))
            .await
            .expect("opening the state does not panic and is not cancelled")
            .inspect_err(|_| seed.cancel())?;
        let app = Arc::new(app);
        let mut served: Vec<_> = listeners.into_iter().map(Listener::plain).collect();
        let acceptor = tls::acceptor(certificate.as_ref(), app.certificates.as_ref());
        let acceptor = acceptor.inspect_err(|_| seed.cancel());
        if let Some(acceptor) = acceptor.map_err(TrackerError::Tls)? {
            let secure = secure.into_iter();
            served.extend(secure.map(|listener| Listener::secure(listener, acceptor.clone())));
        }
        let tasks = TaskTracker::new();
        if let Some(operator) = operator {
            let operator = Arc::new(operator);
            // It was empty until now.
            let _ = app.operator.set(Arc::clone(&operator));
            let app = Arc::clone(&app);
            tasks.spawn(async move {
                tokio::select! {
                    () = operator.resume(&app) => app.shutdown.cancelled().await,
                    () = app.shutdown.cancelled() => {}
                }
                operator.join().await;
            });
        }
        let house = Arc::clone(&app);
        tasks.spawn(async move { house.keep_house().await });
        tasks.spawn(call::keep_calling(Arc::clone(&app)));
        tasks.spawn(store::keep(Arc::clone(&app)));
        app.store.wait().await;
        tasks.spawn(listen::serve(served, Arc::clone(&app), drain));
        if let Some(certificates) = app.certificates.clone() {
            tasks.spawn(acme::keep(Arc::clone(&app), certificates));
        }
        if let Some(certificate) = certificate.clone() {
            let stopped = app.shutdown.clone().cancelled_owned();
            tasks.spawn(async move {
                tokio::select! {
                    () = certificate.keep() => {}
                    () = stopped => {}
                }
            });
        }
        tasks.spawn(listen::udp::serve(udp, Arc::clone(&app)));
        tasks.close();
        Ok(TrackerHandle {
            app,
            addrs,
            https_addrs,
            certificate,
            udp_addrs,
            tasks,
        })
    }
}

/// Reads what is on disk. Blocks.
fn open(
    config: &TrackerConfig,
    files: Option<Arc<Certificate>>,
    shutdown: CancellationToken,
) -> Result<App, TrackerError> {
    let mut app = App::open(config, shutdown)?;
    if let Some(acme) = &config.acme {
        let certificates = Certificates::open(acme, config, files, app.now())?;
        app.certificates = Some(Arc::new(certificates));
    }
    Ok(app)
}

/// Where these listen, of which these addresses were asked for.
fn addresses(listeners: &[TcpListener], asked: &[SocketAddr]) -> Vec<SocketAddr> {
    let pairs = listeners.iter().zip(asked);
    pairs
        .map(|(listener, addr)| listener.local_addr().unwrap_or(*addr))
        .collect()
}

/// Listens for UDP where the configuration says, or else where HTTP came to listen. There a port
/// that the system chose for HTTP may be taken for UDP; then it chooses another.
fn bind_udp(
    config: &TrackerConfig,
    http: &[SocketAddr],
    asked: &[SocketAddr],
) -> Result<Vec<UdpListener>, TrackerError> {
    let bind = |addr: SocketAddr| {
        UdpListener::bind(addr, config.udp_sockets)
            .map_err(|source| TrackerError::Bind { addr, source })
    };
    match &config.udp {
        Some(addrs) => addrs.iter().copied().map(bind).collect(),
        None => {
            let pairs = http.iter().zip(asked);
            pairs
                .map(|(addr, asked)| match bind(*addr) {
                    Err(_) if asked.port() == 0 => bind(SocketAddr::new(addr.ip(), 0)),
                    other => other,
                })
                .collect()
        }
    }
}

fn adopt(socket: std::net::TcpListener) -> io::Result<(TcpListener, SocketAddr)> {
    let addr = socket.local_addr()?;
    socket.set_nonblocking(true)?;
    Ok((TcpListener::from_std(socket)?, addr))
}

/// Listens; where this machine has no IPv6, on all IPv4 addresses in place of all addresses.
async fn bind(addr: SocketAddr) -> Result<TcpListener, TrackerError> {
    let source = match TcpListener::bind(addr).await {
        Ok(listener) => return Ok(listener),
        Err(source) => source,
    };
    let no_ipv6 = matches!(
        source.kind(),
        io::ErrorKind::Unsupported | io::ErrorKind::AddrNotAvailable
    ) || source.raw_os_error() == Some(97);
    if no_ipv6 && addr.is_ipv6() && addr.ip().is_unspecified() {
        let v4 = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), addr.port());
        if let Ok(listener) = TcpListener::bind(v4).await {
            return Ok(listener);
        }
    }
    Err(TrackerError::Bind { addr, source })
}

/// A running tracker. Clones are the same tracker.
#[derive(Debug, Clone)]
pub struct TrackerHandle {
    app: Arc<App>,
    addrs: Vec<SocketAddr>,
    https_addrs: Vec<SocketAddr>,
    certificate: Option<Arc<Certificate>>,
    udp_addrs: Vec<SocketAddr>,
    tasks: TaskTracker,
}

impl TrackerHandle {
    /// The first address it listens on for HTTP, with the port the system chose where 0 was asked for.
    pub fn http_addr(&self) -> SocketAddr {
        *self
            .addrs
            .first()
            .expect("a configuration without address does not start")
    }

    /// All addresses it listens on for HTTP.
    pub fn http_addrs(&self) -> &[SocketAddr] {
        &self.addrs
    }

    /// All addresses it listens on for HTTPS; there may be none.
    pub fn https_addrs(&self) -> &[SocketAddr] {
        &self.https_addrs
    }

    /// Reads the files of the certificate again, if there are any. If they are of no use, the log
    /// says so and what was in force stays so.
    pub async fn reload_certificate(&self) {
        if let Some(certificate) = self.certificate.clone() {
            let reloaded = tokio::task::spawn_blocking(move || certificate.reload());
            if let Err(error) = reloaded.await {
                tracing::error!(%error, "certificate not read");
            }
        }
    }

    /// The key by which sites name it in DNS, if it carries any.
    pub fn operator_key(&self) -> Option<&PublicKey> {
        Some(self.app.operator.get()?.public_key())
    }

    /// All addresses it listens on for UDP; there may be none.
    pub fn udp_addrs(&self) -> &[SocketAddr] {
        &self.udp_addrs
    }

    /// Gets a certificate for the name of a site, which has agreed to that and whose DNS leads here,
    /// and keeps one in force from now on.
    ///
    /// # Errors
    /// [`WantRefused`]; nothing is done then.
    pub fn want_certificate(&self, name: &CertificateName) -> Result<(), WantRefused> {
        match &self.app.certificates {
            Some(certificates) => certificates.want(name, self.app.now()),
            None => Err(WantRefused::NotForSites),
        }
    }

    /// Takes that back, when the site no longer agrees: its certificate is not shown any more.
    pub fn unwant_certificate(&self, name: &CertificateName) {
        if let Some(certificates) = &self.app.certificates {
            certificates.unwant(name);
        }
    }

    /// Makes a site known by its root key, and takes up what the state directory has of it. A
    /// key other than before ends all that rested on that one.
    pub async fn pin_site_key(&self, site: SiteName, root: PublicKey) {
        self.app.pin(site, root).await;
    }

    /// Registers a site record, as `PUT /swarm/site` does.
    ///
    /// # Errors
    /// [`RegisterRefused`]; the record before stays in force.
    pub async fn register_site(&self, record: impl Into<Bytes>) -> Result<(), RegisterRefused> {
        self.app.register(record.into()).await
    }

    /// Raises, renews or lowers an alarm, as `POST /swarm/alarm` does.
    ///
    /// # Errors
    /// [`AlarmRefused`]; the alarm before stays.
    pub fn raise_alarm(&self, alarm: impl Into<Bytes>) -> Result<(), AlarmRefused> {
        self.app.alarm(alarm.into())
    }

    /// The bridges that hold bundles of a site, those on this very host and in its networks
    /// included.
    pub fn bridges_for(&self, site: &SiteName) -> Vec<BridgeView> {
        self.app.bridges(site, Ipv4Addr::LOCALHOST.into())
    }

    /// The sites whose alarm stands.
    pub fn sites_in_need(&self) -> SitesReply {
        self.app.registry().sites_in_need()
    }

    /// Waits until the list of sites in need is another than `since`, for `wait` at most.
    pub async fn wait_sites(&self, since: u64, wait: Duration) -> SitesReply {
        self.app.sites(Some(since), wait).await
    }

    /// Figures of the whole.
    pub fn totals(&self) -> Totals {
        self.app.registry().totals()
    }

    /// Why it should be given no work now, as `GET /readyz` says; `None`: it is well.
    pub fn unready(&self) -> Option<&'static str> {
        self.app.unready()
    }

    /// Waits until the tracker has ended after its shutdown was asked for.
    pub async fn join(&self) {
        self.tasks.wait().await;
    }
}

#[cfg(test)]
mod schema;

#[cfg(test)]
#[path = "../tests/common/site.rs"]
mod testing;
