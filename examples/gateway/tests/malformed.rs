//! Whatever comes in, on the wire or in the file, gets a clear answer: never a panic, never a hang.

use std::ffi::OsStr;

use tokio::io::AsyncWriteExt;

use crate::http_support::{chat, chat_head, connect, raw};
use crate::process::{self, LISTEN, run};
use crate::{KEY, gateway_before, serve};

fn status_of(answer: &str) -> Option<u16> {
    answer.strip_prefix("HTTP/1.")?.get(2..5)?.parse().ok()
}

#[tokio::test]
async fn paths_that_are_no_paths() {
    let (east, server) = serve("east").await;
    let mut gateway = gateway_before(&server, "").await;
    for (target, statuses) in [
        ("/", &[404][..]),
        ("*", &[400, 404]),
        ("//", &[400, 404]),
        ("/openai", &[404]),
        ("/openaix/deployments/gpt-4o/chat/completions", &[404]),
        ("/openai/../secret", &[400]),
        ("/openai/./models", &[400]),
        ("/openai/deployments//chat/completions", &[400]),
        ("/openai/deployments/gpt-4o%2Fx/chat/completions", &[400]),
        ("/openai/deployments/%zz/chat/completions", &[400]),
        ("/openai/deployments/%/chat/completions", &[400]),
        ("/openai/deployments/%ff%fe/chat/completions", &[400, 404]),
        ("/openai/%00", &[400, 404]),
        ("/openai/%2e%2e/x", &[400]),
        ("http://other.example/openai/models", &[400]),
        ("not-a-path", &[400, 404]),
    ] {
        let head =
            format!("POST {target} HTTP/1.1\r\nhost: gateway.example\r\napi-key: {KEY}\r\nconnection: close\r\n\r\n");
        let answer = raw(&gateway.url, head.as_bytes()).await;
        let status = status_of(&answer);
        assert!(status.is_some_and(|status| statuses.contains(&status)), "{target}: {answer}");
    }
    assert_eq!(east.request_count(), 0);
    gateway.is_well().await;
}

#[tokio::test]
async fn two_hosts_in_one_request() {
    let (east, server) = serve("east").await;
    let mut gateway = gateway_before(&server, "").await;
    let answer =
        raw(&gateway.url, format!("{}\r\nhost: other.example\r\nconnection: close\r\n\r\n", chat_head(KEY)).as_bytes())
            .await;
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    assert_eq!(east.request_count(), 0);
    gateway.is_well().await;
}

#[tokio::test]
async fn a_head_that_is_too_large() {
    let (_east, server) = serve("east").await;
    let mut gateway = gateway_before(&server, "").await;
    let one = format!("{}\r\nx-long: {}\r\n\r\n", chat_head(KEY), "x".repeat(1 << 20));
    let many = format!("{}\r\n{}\r\n", chat_head(KEY), "x-many: 0123456789\r\n".repeat((1 << 20) / 20));
    let endless = "x".repeat(1 << 20);
    for (head, statuses) in [(one, &[431][..]), (many, &[431]), (endless, &[400, 414, 431])] {
        let answer = raw(&gateway.url, head.as_bytes()).await;
        let status = status_of(&answer);
        assert!(status.is_some_and(|status| statuses.contains(&status)), "{answer}");
    }
    let fits = format!("{}\r\nx-long: {}\r\n\r\n", chat_head(KEY), "x".repeat(65 << 10));
    assert_eq!(status_of(&raw(&gateway.url, fits.as_bytes()).await), Some(431), "just above the limit");
    gateway.is_well().await;
    assert_eq!(chat(&gateway.url, KEY).await.status, 200);
}

#[tokio::test]
async fn bytes_that_are_no_http() {
    let (_east, server) = serve("east").await;
    let mut gateway = gateway_before(&server, "").await;
    let noise: Vec<u8> = (0..10_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let head = chat_head(KEY);
    for bytes in [
        noise,
        b"\r\n\r\n\r\n\r\nGET".to_vec(),
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 tls client hello \r\n\r\n".to_vec(),
        b"GET / HTTP/9.9\r\n\r\n".to_vec(),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff".to_vec(),
        format!("{head}\r\ncontent-length: -1\r\n\r\n").into_bytes(),
        format!("{head}\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello").into_bytes(),
        format!("{head}\r\ntransfer-encoding: chunked\r\n\r\nzz\r\nhello").into_bytes(),
        format!("{head}\r\nna me: x\r\n\r\n").into_bytes(),
    ] {
        let mut client = connect(&gateway.url).await;
        let _ = client.write_all(&bytes).await;
        let _ = client.shutdown().await;
        drop(client);
        let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(60)]).into_owned();
        assert_eq!(chat(&gateway.url, KEY).await.status, 200, "after {shown:?}");
    }
    gateway.becomes_idle_and_has_learnt_nothing().await;
    gateway.is_well().await;
}

/// Status 2, and exactly these problems, each with its file and key.
async fn is_refused(config: &str, problems: &[&str]) {
    let file = process::file(config);
    for check in [&[][..], &["--check"]] {
        let args: Vec<&OsStr> =
            [OsStr::new("--config"), file.as_os_str()].into_iter().chain(check.iter().map(OsStr::new)).collect();
        let (status, stdout, stderr) = run(&args).await;
        assert_eq!((status, stdout.as_str()), (Some(2), ""), "{stderr}");
        let lines: Vec<_> = stderr.lines().collect();
        assert_eq!(lines.len(), problems.len(), "{stderr}");
        for problem in problems {
            let start = format!("{}: {problem}", file.display());
            assert!(lines.iter().any(|line| line.starts_with(&start)), "{start} in {stderr}");
        }
    }
}

#[tokio::test]
async fn a_file_with_problems_is_refused_with_all_of_them() {
    let east = process::backends(&[("east", "https://east.example")]);
    let client = process::client(KEY);
    is_refused("listen = = 1", &[""]).await;
    is_refused("\u{0}\u{1}", &[""]).await;
    is_refused(&[LISTEN, &east, &east, &client].concat(), &["backends[1].name: "]).await;
    let missing = client.replace(&format!("key = \"{KEY}\""), "key_env = \"NO_SUCH_VARIABLE_OF_ANYBODY\"");
    is_refused(&[LISTEN, &east, &missing].concat(), &["clients[0].key_env: "]).await;
    let many = [LISTEN, "surprise = 1\n", &east, &east.replace("https://east.example", "ftp://x"), &missing].concat();
    is_refused(&many, &["surprise: ", "backends[1].name: ", "backends[1].endpoint: ", "clients[0].key_env: "]).await;
}

#[tokio::test]
async fn a_file_that_cannot_be_read_is_named() {
    let (status, _, stderr) = run(&["--config".as_ref(), "/no/such/gateway.toml".as_ref()]).await;
    assert_eq!(status, Some(2));
    assert!(stderr.starts_with("/no/such/gateway.toml: "), "{stderr}");
    let (status, _, stderr) = run(&["--surprise".as_ref()]).await;
    assert!(status == Some(2) && stderr.contains("--surprise"), "{stderr}");
}
