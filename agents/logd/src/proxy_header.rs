//! The PROXY protocol's header, versions 1 and 2: it names the origin of a connection that a proxy passes on.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::time::timeout;

/// Time limit for the header. A proxy sends it at once; a connection without one by then is not from a proxy.
const HEADER_WITHIN: Duration = Duration::from_secs(10);
/// Bytes that both versions have at least, so that no byte of the stream after the header is read.
const FIRST_BYTES: usize = 12;
/// The longest header of version 1, with its end of line.
const TEXT_BYTES_MAX: usize = 107;
const SIGNATURE: &[u8; FIRST_BYTES] = b"\r\n\r\n\0\r\nQUIT\n";
/// Longest addresses and extensions of version 2 together. Proxies send some hundred bytes.
const BODY_BYTES_MAX: u16 = 4096;

/// Reasons why the header cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum HeaderError {
    #[error("the connection does not begin with a PROXY protocol header")]
    Missing,
    #[error("the PROXY protocol header is malformed")]
    Malformed,
    #[error("the PROXY protocol header did not come within {} s", HEADER_WITHIN.as_secs())]
    Late,
    #[error("the connection ended before its PROXY protocol header: {0}")]
    Broken(#[from] io::Error),
}

/// Reads the header and no byte after it. Returns the peer that it names. `None` stands for the connection's
/// own address, as after a header without a peer (a health check of the proxy itself).
pub async fn read(stream: &mut (impl AsyncRead + Unpin)) -> Result<Option<SocketAddr>, HeaderError> {
    timeout(HEADER_WITHIN, read_patiently(stream)).await.unwrap_or(Err(HeaderError::Late))
}

async fn read_patiently(stream: &mut (impl AsyncRead + Unpin)) -> Result<Option<SocketAddr>, HeaderError> {
    let mut first = [0; FIRST_BYTES];
    let mut known = 0;
    while known < FIRST_BYTES {
        let read = stream.read(&mut first[known..]).await?;
        known += read;
        let so_far = &first[..known];
        // Reported at the first byte that fits neither version, since a plain sender may wait before the
        // next.
        if read == 0 || !(SIGNATURE.starts_with(so_far) || begins_text(so_far)) {
            return Err(HeaderError::Missing);
        }
    }
    if first == *SIGNATURE { read_binary(stream).await } else { read_text(stream, &first).await }
}

fn begins_text(bytes: &[u8]) -> bool {
    const NAME: &[u8] = b"PROXY ";
    let length = bytes.len().min(NAME.len());
    bytes[..length] == NAME[..length]
}

/// Reads a header of version 1: one line of text.
async fn read_text(
    stream: &mut (impl AsyncRead + Unpin),
    first: &[u8; FIRST_BYTES],
) -> Result<Option<SocketAddr>, HeaderError> {
    let mut line = first.to_vec();
    while !line.ends_with(b"\r\n") {
        if line.len() >= TEXT_BYTES_MAX {
            return Err(HeaderError::Malformed);
        }
        line.push(stream.read_u8().await?);
    }
    let line = line.strip_suffix(b"\r\n").and_then(|line| std::str::from_utf8(line).ok());
    parse_text(line.ok_or(HeaderError::Malformed)?)
}

fn parse_text(line: &str) -> Result<Option<SocketAddr>, HeaderError> {
    let mut words = line.split(' ').skip(1);
    let source = match (words.next(), words.next()) {
        (Some("UNKNOWN"), _) => return Ok(None),
        (Some("TCP4"), Some(source)) => Ipv4Addr::from_str(source).ok().map(IpAddr::from),
        (Some("TCP6"), Some(source)) => Ipv6Addr::from_str(source).ok().map(IpAddr::from),
        _ => None,
    };
    let (_destination, source_port, destination_port) = (words.next(), words.next(), words.next());
    let ports = [source_port, destination_port].map(|port| port.and_then(|port| port.parse::<u16>().ok()));
    match (source, ports, words.next()) {
        (Some(source), [Some(port), Some(_)], None) => Ok(Some(SocketAddr::new(source, port))),
        _ => Err(HeaderError::Malformed),
    }
}

/// Reads a header of version 2, after its signature.
async fn read_binary(stream: &mut (impl AsyncRead + Unpin)) -> Result<Option<SocketAddr>, HeaderError> {
    let (command, family) = (stream.read_u8().await?, stream.read_u8().await?);
    let length = stream.read_u16().await?;
    if length > BODY_BYTES_MAX {
        return Err(HeaderError::Malformed);
    }
    let mut body = vec![0; usize::from(length)];
    stream.read_exact(&mut body).await?;
    parse_binary(command, family, &body)
}

fn parse_binary(command: u8, family: u8, body: &[u8]) -> Result<Option<SocketAddr>, HeaderError> {
    let source = match (command, family) {
        // LOCAL: the connection comes from the proxy itself.
        (0x20, _) => return Ok(None),
        (0x21, 0x11) => body.split_first_chunk::<4>().map(|(ip, _)| (IpAddr::from(*ip), 8)),
        (0x21, 0x21) => body.split_first_chunk::<16>().map(|(ip, _)| (IpAddr::from(*ip), 32)),
        // Unspecified, datagrams, or a path: these carry no address of a TCP peer.
        (0x21, _) => return Ok(None),
        _ => None,
    };
    let (ip, port_at) = source.ok_or(HeaderError::Malformed)?;
    match body.get(port_at..port_at + 4) {
        Some(ports) => Ok(Some(SocketAddr::new(ip, u16::from_be_bytes([ports[0], ports[1]])))),
        None => Err(HeaderError::Malformed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Returns the result of reading a stream of these bytes, and the bytes that are left.
    fn read_from(mut bytes: &[u8]) -> (Result<Option<SocketAddr>, String>, &[u8]) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let read = runtime.block_on(read(&mut bytes)).map_err(|e| e.to_string());
        (read, bytes)
    }

    fn binary(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
        let length = u16::try_from(body.len()).unwrap().to_be_bytes();
        [&SIGNATURE[..], &[command, family], &length, body].concat()
    }

    #[test]
    fn no_byte_after_the_header_is_read() {
        let v4 = [&[10, 1, 2, 3, 127, 0, 0, 1][..], &4000u16.to_be_bytes(), &6666u16.to_be_bytes()].concat();
        let v6 =
            [&Ipv6Addr::LOCALHOST.octets()[..], &[0; 16], &[0, 7, 0, 8], b"\x04\0\x01extension"].concat();
        for (header, peer) in [
            (b"PROXY TCP4 10.1.2.3 127.0.0.1 4000 6666\r\n".to_vec(), Some("10.1.2.3:4000")),
            (b"PROXY TCP6 ::1 ::2 7 8\r\n".to_vec(), Some("[::1]:7")),
            (b"PROXY UNKNOWN\r\n".to_vec(), None),
            (b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n".to_vec(), None),
            (binary(0x21, 0x11, &v4), Some("10.1.2.3:4000")),
            (binary(0x21, 0x21, &v6), Some("[::1]:7")),
            (binary(0x20, 0, b""), None),
            (binary(0x21, 0, b"whatever"), None),
        ] {
            let sent = [&header[..], b"PROXY is a line"].concat();
            let (read, rest) = read_from(&sent);
            assert_eq!(read, Ok(peer.map(|peer| peer.parse().unwrap())), "{}", header.escape_ascii());
            assert_eq!(rest, b"PROXY is a line");
        }
    }

    #[test]
    fn invalid_headers_are_rejected() {
        for bytes in [
            &b"<13>a syslog message\n"[..],
            b"",
            b"PRO",
            b"PROXYING is a line\n",
            b"PROXY TCP4 10.1.2.3 127.0.0.1 4000\r\n",
            b"PROXY TCP4 ::1 ::1 1 2\r\n",
            b"PROXY TCP4 10.1.2.3 127.0.0.1 70000 1\r\n",
            b"PROXY TCP4 10.1.2.3 127.0.0.1 1 2 3\r\n",
            b"PROXY UNIX a b 1 2\r\n",
            &[b"PROXY UNKNOWN ", &[b'x'; 200][..]].concat(),
            &binary(0x22, 0x11, &[0; 12]),
            &binary(0x21, 0x11, &[0; 11]),
            &binary(0x21, 0x21, &[0; 35]),
            &binary(0x20, 0, &[0; 5000]),
        ] {
            read_from(bytes).0.unwrap_err();
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_header_or_an_error(
            start in prop_oneof![Just(&b""[..]), Just(&b"PROXY TCP4 "[..]), Just(&SIGNATURE[..])],
            rest in proptest::collection::vec(any::<u8>(), 0..200),
        ) {
            let _ = read_from(&[start, &rest].concat());
        }
    }
}
