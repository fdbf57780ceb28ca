//! Parses the address to listen on.

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs as _};
use std::str::FromStr;

/// An address to listen on: a host or all interfaces, and a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listen {
    host: Host,
    /// 0 for a free port chosen by the operating system.
    port: u16,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Host {
    /// All interfaces: IPv6 and IPv4 if the machine supports both.
    All,
    /// An IP address, or a host name that is resolved at startup.
    Named(String),
}

/// The error returned when parsing a [`Listen`] fails.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotAnAddress {
    /// The port is missing.
    #[error("has no port: write an address with one, such as 127.0.0.1:8080, localhost:8080, [::1]:8080 or :8080")]
    NoPort,
    /// The port is not a number from 0 to 65535.
    #[error("'{0}' is not a port from 0 to 65535")]
    Port(String),
    /// The host is not valid, such as a URL.
    #[error("'{0}' is not a host: write an address such as 127.0.0.1:8080, localhost:8080, [::1]:8080 or :8080")]
    Host(String),
}

impl Listen {
    /// The addresses to try, in order; the service listens on the first one that can be bound.
    ///
    /// # Errors
    /// If the host name cannot be resolved.
    pub fn addresses(&self) -> io::Result<Vec<SocketAddr>> {
        match &self.host {
            // An IPv6 socket accepts IPv4 connections too, if the machine supports IPv6.
            Host::All => Ok(vec![(Ipv6Addr::UNSPECIFIED, self.port).into(), (Ipv4Addr::UNSPECIFIED, self.port).into()]),
            Host::Named(name) => Ok((name.as_str(), self.port).to_socket_addrs()?.collect()),
        }
    }
}

/// Parses `host:port`, `[IPv6]:port`, `:port` (all interfaces), or a bare port (on 127.0.0.1).
impl FromStr for Listen {
    type Err = NotAnAddress;

    fn from_str(text: &str) -> Result<Self, NotAnAddress> {
        if !text.is_empty() && text.bytes().all(|it| it.is_ascii_digit()) {
            return Ok(Self { host: Host::Named(Ipv4Addr::LOCALHOST.to_string()), port: port(text)? });
        }
        let (host, port_text) = text.rsplit_once(':').ok_or(NotAnAddress::NoPort)?;
        if text.parse::<Ipv6Addr>().is_ok() || text.ends_with(']') {
            return Err(NotAnAddress::NoPort);
        }
        let host = match host {
            "" | "*" => Host::All,
            _ => Host::Named(host_name(host).ok_or_else(|| NotAnAddress::Host(host.to_owned()))?.to_owned()),
        };
        Ok(Self { host, port: port(port_text)? })
    }
}

fn port(text: &str) -> Result<u16, NotAnAddress> {
    text.parse().map_err(|_| NotAnAddress::Port(text.to_owned()))
}

fn host_name(text: &str) -> Option<&str> {
    if let Some(address) = text.strip_prefix('[').and_then(|it| it.strip_suffix(']')) {
        return address.parse::<Ipv6Addr>().ok().map(|_| address);
    }
    let is_name = text.bytes().all(|it| it.is_ascii_alphanumeric() || b"-._".contains(&it));
    is_name.then_some(text)
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::All => write!(f, ":{}", self.port),
            Host::Named(host) if host.contains(':') => write!(f, "[{host}]:{}", self.port),
            Host::Named(host) => write!(f, "{host}:{}", self.port),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usual_notations_are_accepted() {
        let table = [
            ("127.0.0.1:8080", &["127.0.0.1:8080"][..]),
            ("0.0.0.0:0", &["0.0.0.0:0"]),
            ("[::]:8080", &["[::]:8080"]),
            ("[::1]:8080", &["[::1]:8080"]),
            (":8080", &["[::]:8080", "0.0.0.0:8080"]),
            ("*:8080", &["[::]:8080", "0.0.0.0:8080"]),
            ("8080", &["127.0.0.1:8080"]),
        ];
        for (text, expected) in table {
            let listen: Listen = text.parse().unwrap();
            let addresses: Vec<_> = listen.addresses().unwrap().iter().map(ToString::to_string).collect();
            assert_eq!(addresses, expected, "{text}");
            assert_eq!(listen.to_string().parse(), Ok(listen), "{text}");
        }
        let localhost = "localhost:8080".parse::<Listen>().unwrap().addresses().unwrap();
        assert!(!localhost.is_empty() && localhost.iter().all(|it| it.ip().is_loopback() && it.port() == 8080));
    }

    #[test]
    fn an_invalid_address_is_rejected_with_the_reason() {
        let table = [
            ("", "no port"),
            ("localhost", "no port"),
            ("127.0.0.1", "no port"),
            ("::1", "no port"),
            ("[::1]", "no port"),
            ("::", "no port"),
            ("localhost:http", "'http' is not a port"),
            (":65536", "'65536' is not a port"),
            ("65536", "'65536' is not a port"),
            ("localhost:", "'' is not a port"),
            ("http://localhost:8080", "'http://localhost' is not a host"),
            ("::1:8080", "no port"),
            ("[localhost]:80", "'[localhost]' is not a host"),
            ("two words:80", "'two words' is not a host"),
            ("/run/windlass.sock", "no port"),
        ];
        for (text, expected) in table {
            let refused = text.parse::<Listen>().unwrap_err().to_string();
            assert!(refused.contains(expected), "{text}: {refused}");
        }
    }
}
