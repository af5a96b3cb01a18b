//! From flags to a client: kubeconfig, `--master`, or the pod's service account (contract 1.7).

use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http::Uri;
use http::uri::Scheme;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::{Builder, Client as HttpClient};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use kube::client::{Body, Client, ConfigExt};
use kube::config::{KubeConfigOptions, Kubeconfig, KubeconfigError};
use tower::{BoxError, ServiceBuilder};

use super::Config;
use super::requests::{Observed, Observer};

/// How long a TCP connection may take to open.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// A silent connection is probed after this time, so that a peer that is gone is noticed well before a watch would
/// end by itself: after `KEEPALIVE_IDLE + KEEPALIVE_RETRIES * KEEPALIVE_INTERVAL` = 45 s.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(30);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
const KEEPALIVE_RETRIES: u32 = 3;

/// Why there is no client. Each message is one line that names the file or value and what to do.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    #[error("kubeconfig {path}: cannot be read: {reason}: check --kubeconfig or clientConnection.kubeconfig")]
    Unreadable { path: PathBuf, reason: std::io::Error },
    #[error("kubeconfig {path}: {reason}: correct the file")]
    Broken { path: PathBuf, reason: String },
    #[error("kubeconfig {path}: proxy-url {url:?} is not supported: remove it, the API server is contacted directly")]
    Proxy { path: PathBuf, url: String },
    #[error("{origin}: {url:?} is no API server URL: {reason}: write it as https://HOST:PORT")]
    BadUrl { origin: String, url: String, reason: String },
    #[error("not in a cluster: {reason}: outside a pod, give --kubeconfig or --master, or --manifests")]
    NotInCluster { reason: String },
    #[error("credentials from {origin} for {url}: {reason}: correct the certificate, key or user there")]
    Credentials { origin: String, url: String, reason: String },
}

/// Makes a client. Nothing is sent: an API server that is away is not an error, the source waits for it.
pub async fn connect(config: &Config) -> Result<Client, ConnectError> {
    let (origin, client_config) = match (&config.kubeconfig, &config.master) {
        (Some(path), master) => (path.display().to_string(), from_file(path, master.as_deref()).await?),
        (None, Some(master)) => ("--master".to_owned(), kube::Config::new(parse_url("--master", master, "http")?)),
        (None, None) => ("the pod's service account".to_owned(), in_cluster()?),
    };
    tracing::info!(url = %client_config.cluster_url, from = %origin, "API server");
    let url = client_config.cluster_url.to_string();
    build(client_config, &config.observer).map_err(|reason| ConnectError::Credentials {
        origin,
        url,
        reason: describe(&reason),
    })
}

fn in_cluster() -> Result<kube::Config, ConnectError> {
    kube::Config::incluster().map_err(|reason| ConnectError::NotInCluster { reason: describe(&reason) })
}

/// Reads a kubeconfig; `--master` replaces the server of its current context.
async fn from_file(path: &Path, master: Option<&str>) -> Result<kube::Config, ConnectError> {
    let broken = |error: KubeconfigError| match error {
        KubeconfigError::ReadConfig(reason, path) => ConnectError::Unreadable { path, reason },
        KubeconfigError::CurrentContextNotSet => {
            ConnectError::Broken { path: path.into(), reason: "current-context is not set".to_owned() }
        }
        other => ConnectError::Broken { path: path.into(), reason: describe(&other) },
    };
    let mut kubeconfig = Kubeconfig::read_from(path).map_err(broken)?;
    let Some(cluster) = current_cluster(&mut kubeconfig) else {
        // Let the library say which part of the chain context, cluster is missing.
        return kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.map_err(broken);
    };
    if let Some(url) = cluster.proxy_url.clone().filter(|url| !url.is_empty()) {
        return Err(ConnectError::Proxy { path: path.into(), url });
    }
    let origin = if master.is_some() { "--master".to_owned() } else { format!("kubeconfig {}", path.display()) };
    if let Some(server) = master.or(cluster.server.as_deref()) {
        let has_tls = cluster.certificate_authority.is_some() || cluster.certificate_authority_data.is_some();
        cluster.server = Some(parse_url(&origin, server, if has_tls { "https" } else { "http" })?.to_string());
    }
    kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.map_err(broken)
}

/// The cluster that the current context names.
fn current_cluster(kubeconfig: &mut Kubeconfig) -> Option<&mut kube::config::Cluster> {
    let current = kubeconfig.current_context.as_ref()?;
    let context = kubeconfig.contexts.iter().find(|context| &context.name == current)?.context.as_ref()?;
    let cluster = kubeconfig.clusters.iter_mut().find(|cluster| cluster.name == context.cluster)?;
    cluster.cluster.as_mut()
}

/// Reads a URL; one without a scheme (`host:port`) gets the default, as client-go does it.
fn parse_url(origin: &str, text: &str, default_scheme: &str) -> Result<Uri, ConnectError> {
    let bad = |reason: &str| ConnectError::BadUrl {
        origin: origin.to_owned(),
        url: text.to_owned(),
        reason: reason.to_owned(),
    };
    let full = if text.contains("://") { text.to_owned() } else { format!("{default_scheme}://{text}") };
    let url: Uri = full.parse().map_err(|error: http::uri::InvalidUri| bad(&error.to_string()))?;
    if url.scheme() != Some(&Scheme::HTTP) && url.scheme() != Some(&Scheme::HTTPS) {
        return Err(bad("the scheme must be http or https"));
    }
    if url.host().is_none_or(str::is_empty) {
        return Err(bad("it names no host"));
    }
    if url.query().is_some() {
        return Err(bad("it has a query"));
    }
    Ok(url)
}

/// The HTTP stack: base URL and credentials from the library over a connector that notices dead peers. Retries and
/// logging are the reflector's, so the library's own layers for them are left out.
fn build(config: kube::Config, observer: &Observer) -> Result<Client, kube::Error> {
    let mut connector = HttpConnector::new();
    connector.enforce_http(false);
    connector.set_nodelay(true);
    connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
    connector.set_keepalive(Some(KEEPALIVE_IDLE));
    connector.set_keepalive_interval(Some(KEEPALIVE_INTERVAL));
    connector.set_keepalive_retries(Some(KEEPALIVE_RETRIES));
    if config.cluster_url.scheme() == Some(&Scheme::HTTP) {
        // Without TLS no trust store is needed, and a minimal image has none.
        return stack(&config, http_builder().build(connector), observer);
    }
    let connector = config.rustls_https_connector_with_connector(connector)?;
    stack(&config, http_builder().build(connector), observer)
}

fn http_builder() -> Builder {
    let mut builder = HttpClient::builder(TokioExecutor::new());
    builder.pool_timer(TokioTimer::new());
    builder
}

fn stack<C>(config: &kube::Config, http: HttpClient<C, Body>, observer: &Observer) -> Result<Client, kube::Error>
where
    C: hyper_util::client::legacy::connect::Connect + Clone + Send + Sync + 'static,
{
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer()?)
        .layer(config.extra_headers_layer()?)
        .map_err(BoxError::from)
        .service(Observed::new(http, observer.clone()));
    Ok(Client::new(service, config.default_namespace.clone()))
}

/// An error with its causes, on one line; a cause that its effect already quotes is not repeated.
pub(super) fn describe(error: &dyn Error) -> String {
    let mut text = one_line(&error.to_string());
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = one_line(&error.to_string());
        if !text.contains(&next) {
            text = format!("{text}: {next}");
        }
        cause = error.source();
    }
    text
}

/// The first line that says something: parsers append a picture of the file.
fn one_line(text: &str) -> String {
    text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const KUBECONFIG: &str = "apiVersion: v1\nkind: Config\ncurrent-context: c\n\
        contexts: [{name: c, context: {cluster: k, user: u}}]\n\
        users: [{name: u, user: {token: secret}}]\n";

    fn file(text: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        file
    }

    fn config(path: Option<&Path>, master: Option<&str>) -> Config {
        Config { kubeconfig: path.map(Path::to_owned), master: master.map(str::to_owned), ..Config::new("node") }
    }

    async fn error(path: Option<&Path>, master: Option<&str>) -> String {
        let error = connect(&config(path, master)).await.err().expect("an error").to_string();
        assert!(!error.contains('\n'), "{error}");
        error
    }

    #[tokio::test]
    async fn a_missing_kubeconfig_is_named() {
        let error = error(Some(Path::new("/nonexistent/kubeconfig")), None).await;
        assert!(error.starts_with("kubeconfig /nonexistent/kubeconfig: cannot be read: No such file"), "{error}");
    }

    #[tokio::test]
    async fn a_broken_kubeconfig_is_named_with_the_reason() {
        for (text, reason) in [
            ("clusters: {", "failed to parse kubeconfig YAML"),
            ("", "current-context is not set"),
            ("current-context: nowhere\n", "nowhere"),
            (KUBECONFIG, "failed to load the cluster of context: k"),
            (&format!("{KUBECONFIG}clusters: [{{name: k, cluster: {{}}}}]\n"), "cluster url is missing"),
            (
                &format!(
                    "{KUBECONFIG}clusters: [{{name: k, cluster: {{server: 'https://a', certificate-authority: /no/ca}}}}]\n"
                ),
                "/no/ca",
            ),
            (
                &format!(
                    "{KUBECONFIG}clusters: [{{name: k, cluster: {{server: 'https://a', proxy-url: 'http://p'}}}}]\n"
                ),
                "proxy-url \"http://p\" is not supported",
            ),
        ] {
            let file = file(text);
            let error = error(Some(file.path()), None).await;
            assert!(error.starts_with(&format!("kubeconfig {}: ", file.path().display())), "{error}");
            assert!(error.contains(reason), "{error} should contain {reason}");
        }
    }

    #[tokio::test]
    async fn a_bad_url_is_named_with_its_origin() {
        for master in ["https://", "ftp://10.0.0.1", "https://a b", "https://a/?x=1", ""] {
            let error = error(None, Some(master)).await;
            assert!(error.starts_with(&format!("--master: {master:?} is no API server URL: ")), "{error}");
        }
        let file = file(&format!("{KUBECONFIG}clusters: [{{name: k, cluster: {{server: 'ftp://x'}}}}]\n"));
        let error = error(Some(file.path()), None).await;
        assert!(error.contains("\"ftp://x\" is no API server URL") && error.starts_with("kubeconfig "), "{error}");
    }

    #[tokio::test]
    async fn outside_a_pod_the_remedy_is_named() {
        // The test would find the API server if it ran in a pod; it never does so with both variables unset.
        if std::env::var_os("KUBERNETES_SERVICE_HOST").is_none() {
            let error = error(None, None).await;
            assert!(
                error.starts_with("not in a cluster: ") && error.contains("give --kubeconfig or --master"),
                "{error}"
            );
        }
    }

    #[tokio::test]
    async fn bad_credentials_name_their_origin() {
        let text = KUBECONFIG.replace("token: secret", "client-certificate-data: YQ==, client-key-data: YQ==");
        let file = file(&format!(
            "{text}clusters: [{{name: k, cluster: {{server: 'https://a', insecure-skip-tls-verify: true}}}}]\n"
        ));
        let error = error(Some(file.path()), None).await;
        assert!(error.starts_with(&format!("credentials from {}", file.path().display())), "{error}");
    }

    #[tokio::test]
    async fn master_overrides_the_server_of_the_kubeconfig() {
        let file = file(&format!("{KUBECONFIG}clusters: [{{name: k, cluster: {{server: 'https://other'}}}}]\n"));
        let found = from_file(file.path(), Some("10.0.0.1:6443")).await.unwrap();
        assert_eq!(found.cluster_url.to_string(), "http://10.0.0.1:6443/");
        assert!(found.auth_info.token.is_some());
        let found = from_file(file.path(), None).await.unwrap();
        assert_eq!(found.cluster_url.to_string(), "https://other/");
        assert!(connect(&config(None, Some("http://[::1]:8080"))).await.is_ok());
        let tls = "{server: 'https://other', insecure-skip-tls-verify: true}";
        let file = self::file(&format!("{KUBECONFIG}clusters: [{{name: k, cluster: {tls}}}]\n"));
        assert!(connect(&config(Some(file.path()), None)).await.is_ok());
    }
}
