//! `--health`: asks the gateway that runs with the same configuration, for containers that have no other program to do it.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::Duration;

/// An answer that takes longer is none.
const PATIENCE: Duration = Duration::from_secs(2);

/// Says why the gateway whose admin listener has this address does not seem to be alive.
pub(crate) fn check(admin: Option<SocketAddr>) -> Result<(), String> {
    let admin = admin.ok_or("admin is \"off\": there is nobody to ask")?;
    let address = reachable(admin);
    match ask(address) {
        Ok(status) if status == "200" => Ok(()),
        Ok(status) => Err(format!("{address} answers {status:?} for /livez")),
        Err(error) => Err(format!("{address} does not answer: {error}")),
    }
}

/// Returns the address to ask: what listens on every address of this machine is asked on one of them.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

/// The status, as it is written.
fn ask(address: SocketAddr) -> std::io::Result<String> {
    let mut connection = TcpStream::connect_timeout(&address, PATIENCE)?;
    connection.set_read_timeout(Some(PATIENCE))?;
    connection.set_write_timeout(Some(PATIENCE))?;
    write!(connection, "GET /livez HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n")?;
    // "HTTP/1.1 200"
    let mut head = [0; 12];
    connection.read_exact(&mut head)?;
    Ok(String::from_utf8_lossy(&head[9..]).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_listens_everywhere_is_asked_here() {
        for (listens, asked) in [
            ("0.0.0.0:9090", "127.0.0.1:9090"),
            ("[::]:1", "[::1]:1"),
            ("10.1.2.3:4", "10.1.2.3:4"),
            ("[::1]:5", "[::1]:5"),
        ] {
            assert_eq!(reachable(listens.parse().unwrap()), asked.parse().unwrap());
        }
    }
}
