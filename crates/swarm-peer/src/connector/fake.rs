//! A network for tests: names answer as told, public addresses lead to servers on loopback, and
//! every look-up and call is remembered.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Mutex;

use tokio::net::TcpStream;

use super::net::Network;

#[derive(Debug, Default)]
pub(crate) struct FakeNet {
    names: Mutex<HashMap<String, VecDeque<Vec<IpAddr>>>>,
    routes: Mutex<HashMap<SocketAddr, SocketAddr>>,
    pub(crate) lookups: Mutex<Vec<String>>,
    pub(crate) dialled: Mutex<Vec<SocketAddr>>,
}

impl FakeNet {
    /// The name's answers, one look-up after the other; the last goes on.
    pub(crate) fn name(&self, name: &str, answers: &[&[&str]]) {
        let parse = |answer: &&[&str]| answer.iter().map(|ip| ip.parse().unwrap()).collect();
        let answers = answers.iter().map(parse).collect();
        self.names.lock().unwrap().insert(name.to_owned(), answers);
    }

    /// Calls to `addr` reach `server`.
    pub(crate) fn route(&self, addr: &str, server: SocketAddr) {
        let addr = addr.parse().unwrap();
        self.routes.lock().unwrap().insert(addr, server);
    }
}

impl Network for FakeNet {
    fn lookup<'a>(
        &'a self,
        host: &'a str,
        port: u16,
    ) -> Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send + 'a>> {
        Box::pin(async move {
            self.lookups.lock().unwrap().push(host.to_owned());
            let mut names = self.names.lock().unwrap();
            let answers = names.get_mut(host).ok_or(io::ErrorKind::NotFound)?;
            let answer = match answers.len() {
                1 => answers.front().cloned(),
                _ => answers.pop_front(),
            };
            let answer = answer.unwrap_or_default().into_iter();
            Ok(answer.map(|ip| SocketAddr::new(ip, port)).collect())
        })
    }

    fn connect(
        &self,
        addr: SocketAddr,
        _: Option<IpAddr>,
    ) -> Pin<Box<dyn Future<Output = io::Result<TcpStream>> + Send + '_>> {
        Box::pin(async move {
            self.dialled.lock().unwrap().push(addr);
            let server = self.routes.lock().unwrap().get(&addr).copied();
            TcpStream::connect(server.ok_or(io::ErrorKind::ConnectionRefused)?).await
        })
    }
}
