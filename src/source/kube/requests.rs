//! Tells of every request that the client sends, for metrics.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use http::{Method, Request, Response, Uri};
use tower::Service;

/// A request that is over: its answer has begun, or there will be none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finished<'a> {
    pub method: &'a Method,
    /// `host:port` of the API server; without the port where it is the scheme's own.
    pub host: &'a str,
    /// The answer's status; `None`: no answer came.
    pub code: Option<u16>,
    /// A watch: its answer goes on for minutes.
    pub is_watch: bool,
    /// Until the answer's header, or the failure.
    pub took: Duration,
}

/// Who is told. Called by the tasks that send: it must not block.
#[derive(Clone)]
pub struct Observer(Arc<dyn Fn(&Finished<'_>) + Send + Sync>);

impl Observer {
    pub fn new(tell: impl Fn(&Finished<'_>) + Send + Sync + 'static) -> Self {
        Observer(Arc::new(tell))
    }
}

impl Default for Observer {
    /// Nobody is told.
    fn default() -> Self {
        Observer::new(|_| {})
    }
}

impl fmt::Debug for Observer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Observer")
    }
}

/// A client's service whose requests are told of.
#[derive(Clone)]
pub(super) struct Observed<S> {
    inner: S,
    observer: Observer,
}

impl<S> Observed<S> {
    pub(super) fn new(inner: S, observer: Observer) -> Self {
        Observed { inner, observer }
    }
}

impl<S, I, O> Service<Request<I>> for Observed<S>
where
    S: Service<Request<I>, Response = Response<O>>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<I>) -> Self::Future {
        let (method, uri) = (request.method().clone(), request.uri().clone());
        let (began, observer) = (Instant::now(), self.observer.clone());
        let answer = self.inner.call(request);
        Box::pin(async move {
            let answer = answer.await;
            let code = answer.as_ref().ok().map(|response| response.status().as_u16());
            let host = uri.authority().map_or("", |authority| authority.as_str());
            let took = began.elapsed();
            (observer.0)(&Finished { method: &method, host, code, is_watch: is_watch(&uri), took });
            answer
        })
    }
}

fn is_watch(uri: &Uri) -> bool {
    uri.query().is_some_and(|query| query.split('&').any(|part| matches!(part, "watch=true" | "watch=1")))
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::Mutex;

    use super::*;

    async fn told(uri: &str, answer: Result<u16, ()>) -> Vec<(String, String, Option<u16>, bool)> {
        let told = Arc::new(Mutex::new(Vec::new()));
        let observer = Observer::new({
            let told = told.clone();
            move |done| {
                let done = (done.method.to_string(), done.host.to_owned(), done.code, done.is_watch);
                told.lock().unwrap().push(done);
            }
        });
        let inner = tower::service_fn(move |_: Request<()>| async move {
            answer.map(|code| Response::builder().status(code).body(()).unwrap())
        });
        let mut service = Observed::new(inner, observer);
        let _ = service.call(Request::get(uri).body(()).unwrap()).await;
        std::mem::take(&mut *told.lock().unwrap())
    }

    #[tokio::test]
    async fn answers_and_failures_are_told() {
        let get = |code, is_watch| vec![("GET".to_owned(), "10.0.0.1:6443".to_owned(), code, is_watch)];
        assert_eq!(told("https://10.0.0.1:6443/api/v1/services?limit=5", Ok(200)).await, get(Some(200), false));
        assert_eq!(told("https://10.0.0.1:6443/api/v1/services?a=b&watch=true", Ok(410)).await, get(Some(410), true));
        assert_eq!(told("https://10.0.0.1:6443/api/v1/services?watch=1", Err(())).await, get(None, true));
    }

    #[tokio::test]
    async fn nobody_need_listen() {
        let inner = tower::service_fn(|_: Request<()>| async { Ok::<_, Infallible>(Response::new(())) });
        let mut service = Observed::new(inner, Observer::default());
        assert!(service.call(Request::new(())).await.is_ok());
    }
}
