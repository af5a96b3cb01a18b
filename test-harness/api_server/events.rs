//! Events that clients create and change: kept as they were sent, checked as the API server checks them.

use std::collections::BTreeMap;
use std::sync::Mutex;

use serde_json::Value;

/// All events, by namespace and name.
#[derive(Default)]
pub(super) struct Events(Mutex<BTreeMap<(String, String), Value>>);

/// A status code, and the object or why there is none.
pub(super) type Written = (u16, Result<Value, String>);

impl Events {
    /// `POST` to `/apis/events.k8s.io/v1/namespaces/NS/events`.
    pub(super) fn create(&self, path: &str, body: &[u8]) -> Written {
        let Some((namespace, None)) = place(path) else { return (404, Err(format!("no such path: {path}"))) };
        let Ok(event) = serde_json::from_slice::<Value>(body) else { return (400, Err("no JSON".to_owned())) };
        if let Err(why) = check(namespace, &event) {
            return (422, Err(why));
        }
        let name = event["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let mut events = self.0.lock().expect("lock");
        if events.contains_key(&(namespace.to_owned(), name.clone())) {
            return (409, Err(format!("events {name:?} already exists")));
        }
        events.insert((namespace.to_owned(), name), event.clone());
        (201, Ok(event))
    }

    /// `PATCH` of one of them: fields of the first level replace what was there.
    pub(super) fn patch(&self, path: &str, body: &[u8]) -> Written {
        let Some((namespace, Some(name))) = place(path) else { return (404, Err(format!("no such path: {path}"))) };
        let Ok(Value::Object(patch)) = serde_json::from_slice(body) else { return (400, Err("no JSON".to_owned())) };
        let mut events = self.0.lock().expect("lock");
        let Some(event) = events.get_mut(&(namespace.to_owned(), name.to_owned())) else {
            return (404, Err(format!("events {name:?} not found")));
        };
        for (field, value) in patch {
            event[field] = value;
        }
        (200, Ok(event.clone()))
    }

    pub(super) fn all(&self) -> Vec<Value> {
        self.0.lock().expect("lock").values().cloned().collect()
    }

    pub(super) fn clear(&self) {
        self.0.lock().expect("lock").clear();
    }
}

/// The namespace and the name in a path.
fn place(path: &str) -> Option<(&str, Option<&str>)> {
    let rest = path.strip_prefix("/apis/events.k8s.io/v1/namespaces/")?;
    let mut parts = rest.split('/');
    let namespace = parts.next()?;
    (parts.next()? == "events").then_some((namespace, parts.next()))
}

/// What the API server demands of a new event.
fn check(namespace: &str, event: &Value) -> Result<(), String> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    if event["apiVersion"] != "events.k8s.io/v1" || event["kind"] != "Event" {
        return Err(format!("{} {} is no event", event["apiVersion"], event["kind"]));
    }
    if text(&event["metadata"]["namespace"]) != namespace {
        return Err("metadata.namespace: does not match the request".to_owned());
    }
    for field in ["eventTime", "action", "reason", "reportingController", "reportingInstance"] {
        if text(&event[field]).is_empty() {
            return Err(format!("{field}: Required value"));
        }
    }
    if !["Normal", "Warning"].contains(&text(&event["type"]).as_str()) {
        return Err("type: Invalid value".to_owned());
    }
    let about = text(&event["regarding"]["namespace"]);
    let belongs = if about.is_empty() { ["default", "kube-system"].contains(&namespace) } else { about == namespace };
    if !belongs {
        return Err("regarding.namespace: does not match event.namespace".to_owned());
    }
    for (field, most) in [("note", 1024), ("reportingInstance", 128), ("action", 128), ("reason", 128)] {
        if text(&event[field]).len() > most {
            return Err(format!("{field}: can have at most {most} characters"));
        }
    }
    Ok(())
}
