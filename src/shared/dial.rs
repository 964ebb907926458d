//! From an address to a connection that Redis has greeted.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use http::HeaderValue;
use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, FromRedisValue, ProtocolVersion, PushInfo, PushKind, RedisConnectionInfo, RedisError,
};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use serde::Deserialize;
use tokio::net::TcpStream;
use tokio::task::AbortHandle;
use tokio_rustls::TlsConnector;

use super::link::{Listener, Told, described, lock};
use super::{Address, InvalidAddress, Login};
use crate::client::{reason, trust_for_other};

/// Channel on which replicas tell each other of openings.
pub(super) const CHANNEL: &str = "aoai:open";

pub(super) struct Dial {
    address: Address,
    login: Login,
    tls: Option<(TlsConnector, ServerName<'static>)>,
    listener: Listener,
}

/// A connection, with the task that drives it and the token that was shown.
pub(super) struct Connected {
    pub(super) connection: MultiplexedConnection,
    driver: AbortHandle,
    shown: Mutex<Option<HeaderValue>>,
}

impl Dial {
    pub(super) fn new(address: Address, login: Login, listener: Listener) -> Result<Self, InvalidAddress> {
        let tls = if address.is_tls {
            let config: Arc<ClientConfig> =
                trust_for_other(&address.own_roots).map_err(|_| InvalidAddress("TLS cannot be set up"))?;
            let name = ServerName::try_from(address.host.clone());
            Some((TlsConnector::from(config), name.map_err(|_| InvalidAddress("has no host that TLS could prove"))?))
        } else {
            None
        };
        Ok(Self { address, login, tls, listener })
    }

    pub(super) async fn connect(&self) -> Result<Connected, String> {
        let shown = match &self.login {
            Login::Tokens(tokens) => Some(tokens.wait().await.map_err(|error| error.to_string())?),
            Login::Nobody | Login::Password { .. } => None,
        };
        let info = self.greeting(shown.as_ref())?;
        let stream = TcpStream::connect((self.address.host.as_str(), self.address.port)).await;
        let unconnected = |error: std::io::Error| format!("there is no connection to it: {}", reason(&error));
        let stream = stream.map_err(unconnected)?;
        let _ = stream.set_nodelay(true);
        let listener = self.listener.clone();
        let config = AsyncConnectionConfig::new().set_response_timeout(None).set_push_sender(move |push| {
            hear(&listener, &push);
            Ok::<_, std::convert::Infallible>(())
        });
        let greeted = match &self.tls {
            None => MultiplexedConnection::new_with_config(&info, stream, config).await.map(driven),
            Some((connector, name)) => {
                let stream = connector.connect(name.clone(), stream).await;
                let stream = stream.map_err(unconnected)?;
                MultiplexedConnection::new_with_config(&info, stream, config).await.map(driven)
            }
        };
        let (mut connection, driver) = greeted.map_err(|error| described(&error))?;
        let connected = Connected { connection: connection.clone(), driver, shown: Mutex::new(shown) };
        connection.subscribe(CHANNEL).await.map_err(|error| described(&error))?;
        Ok(connected)
    }

    /// The token that Redis has not been shown yet.
    pub(super) fn renewal(&self, connected: &Connected) -> Option<HeaderValue> {
        let Login::Tokens(tokens) = &self.login else { return None };
        tokens.current().filter(|token| lock(&connected.shown).as_ref() != Some(token))
    }

    fn greeting(&self, token: Option<&HeaderValue>) -> Result<RedisConnectionInfo, String> {
        let info = RedisConnectionInfo::default()
            .set_protocol(ProtocolVersion::RESP3)
            .set_skip_set_lib_name()
            .set_db(self.address.database);
        let info = match &self.login {
            Login::Password { user, password } => {
                let info = info.set_password(password);
                if let Some(user) = user { info.set_username(user) } else { info }
            }
            Login::Nobody | Login::Tokens(_) => info,
        };
        let Some(token) = token else { return Ok(info) };
        let (user, secret) = user_and_secret(token).ok_or("the token names nobody (oid)")?;
        Ok(info.set_username(user).set_password(secret))
    }
}

impl Connected {
    pub(super) fn is_over(&self) -> bool {
        self.driver.is_finished()
    }

    /// Shows a newer token before the old one ends.
    pub(super) async fn renew(
        &self,
        connection: &mut MultiplexedConnection,
        token: HeaderValue,
    ) -> Result<(), RedisError> {
        if let Some((user, secret)) = user_and_secret(&token) {
            let () = redis::cmd("AUTH").arg(user).arg(secret).query_async(connection).await?;
        }
        *lock(&self.shown) = Some(token);
        Ok(())
    }
}

impl Drop for Connected {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

fn driven(
    (connection, driver): (MultiplexedConnection, impl Future<Output = ()> + Send + 'static),
) -> (MultiplexedConnection, AbortHandle) {
    (connection, tokio::spawn(driver).abort_handle())
}

fn hear(listener: &Listener, push: &PushInfo) {
    let (PushKind::Message, Some(text)) = (&push.kind, push.data.get(1)) else { return };
    let Ok(text) = String::from_redis_value_ref(text) else { return };
    let mut parts = text.splitn(4, ' ');
    let (Some(until), Some(left), by) = (parts.next(), parts.next(), parts.next()) else { return };
    let Some(circuit) = parts.next() else { return };
    let times = until.parse().ok().zip(left.parse().ok().map(Duration::from_millis));
    if let (Some((until, left)), Some(listener)) = (times, &*lock(listener)) {
        listener(Told { circuit, until, left, by });
    }
}

/// Whom a token names, as Azure's Redis knows it, and the token without `Bearer`.
fn user_and_secret(token: &HeaderValue) -> Option<(String, String)> {
    #[derive(Deserialize)]
    struct Claims {
        oid: String,
    }
    let secret = token.to_str().ok()?.strip_prefix("Bearer ")?;
    let claims = BASE64_URL_SAFE_NO_PAD.decode(secret.split('.').nth(1)?).ok()?;
    let Claims { oid } = serde_json::from_slice(&claims).ok()?;
    Some((oid, secret.to_owned()))
}
