//! One plain HTTP request to a port of a host.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use weir::lab::Host;

const TIMEOUT: Duration = Duration::from_secs(5);

/// An answer. Code 0: there is none, and `body` says why.
#[derive(Debug)]
pub struct Answer {
    pub code: u16,
    pub headers: String,
    pub body: String,
}

pub fn post(host: &Host, port: u16, path: &str, body: &str) -> Answer {
    request(host, (Ipv4Addr::LOCALHOST.into(), port), "POST", path, body)
}

pub fn get(host: &Host, to: (IpAddr, u16), path: &str) -> Answer {
    request(host, to, "GET", path, "")
}

fn request(host: &Host, to: (IpAddr, u16), method: &str, path: &str, body: &str) -> Answer {
    let to = SocketAddr::from(to);
    let text = format!("{method} {path} HTTP/1.0\r\nHost: {to}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    let exchange = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect_timeout(&to, TIMEOUT)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        stream.write_all(text.as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    match host.run(exchange).unwrap() {
        Ok(answer) => {
            let (headers, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
            let code = headers.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
            Answer { code, headers: headers.to_lowercase(), body: body.to_owned() }
        }
        Err(error) => Answer { code: 0, headers: String::new(), body: error.to_string() },
    }
}
