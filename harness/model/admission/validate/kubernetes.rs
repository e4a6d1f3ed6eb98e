use std::collections::BTreeSet;

use serde_json::Value;

use super::Reader;
use super::names::is_label;
use crate::admission::schema::shown;
use crate::scenario::field;

/// The checks of Kubernetes that its published definitions do not contain, as far as they concern Services and workloads.
impl Reader<'_> {
    pub(super) fn kubernetes(&mut self) {
        match (self.manifest.group(), self.manifest.kind()) {
            ("", "Service") => self.service(),
            ("", "Pod") => self.pod("/spec"),
            ("apps", "Deployment" | "ReplicaSet" | "StatefulSet" | "DaemonSet") => {
                self.number("/spec/replicas", 0, i64::from(i32::MAX));
                self.labels("/spec/template/metadata/labels");
                self.selector();
                self.pod("/spec/template/spec");
                self.one_of("/spec/template/spec/restartPolicy", &["Always"]);
            }
            ("batch", "Job") => {
                self.labels("/spec/template/metadata/labels");
                self.pod("/spec/template/spec");
                self.one_of("/spec/template/spec/restartPolicy", &["OnFailure", "Never"]);
            }
            _ => {}
        }
    }

    fn at(&self, pointer: &str) -> &Value {
        self.manifest.at(pointer).unwrap_or(&Value::Null)
    }

    /// Refuses the value at a pointer.
    fn refuse_at(&mut self, pointer: &str, wrong: &str) {
        self.within(pointer, |reader| reader.refuse(format!("{} {wrong}", field(pointer))));
    }

    fn number(&mut self, pointer: &str, least: i64, most: i64) {
        if let Some(number) = self.at(pointer).as_i64().filter(|number| !(least..=most).contains(number)) {
            self.refuse_at(pointer, &format!("is {number}, not between {least} and {most}"));
        }
    }

    fn one_of(&mut self, pointer: &str, allowed: &[&str]) {
        if let Some(found) = self.at(pointer).as_str().filter(|found| !allowed.contains(found)) {
            let wrong = format!("is `{found}`, not {}", allowed.join(" or "));
            self.refuse_at(pointer, &wrong);
        }
    }

    /// Compares the selector of a workload with the labels of its pods.
    fn selector(&mut self) {
        let manifest = self.manifest;
        let labels = self.at("/spec/template/metadata/labels").clone();
        let selector = manifest.at("/spec/selector/matchLabels").and_then(Value::as_object);
        for (key, value) in selector.into_iter().flatten() {
            if labels.get(key) != Some(value) {
                let wanted = value.as_str().unwrap_or_default();
                let message = format!("the selector requires {key}={wanted}, which the template's labels lack");
                self.within("/spec/selector/matchLabels", |reader| {
                    reader.within_field(key, |reader| reader.refuse(message));
                });
            }
        }
        let selector = self.at("/spec/selector");
        if selector.is_object() && ["matchLabels", "matchExpressions"].iter().all(|name| is_empty(&selector[name])) {
            self.refuse_at("/spec/selector", "is empty; a workload has to select its pods");
        }
    }

    fn service(&mut self) {
        let several = self.at("/spec/ports").as_array().map_or(0, Vec::len);
        self.one_of("/spec/type", &["ClusterIP", "NodePort", "LoadBalancer", "ExternalName"]);
        let mut names = BTreeSet::new();
        for index in 0..several {
            let port = format!("/spec/ports/{index}");
            self.number(&format!("{port}/port"), 1, 65535);
            self.target_port(&format!("{port}/targetPort"));
            self.one_of(&format!("{port}/protocol"), &["TCP", "UDP", "SCTP"]);
            let name = format!("{port}/name");
            match self.at(&name).as_str().map(ToOwned::to_owned) {
                None if several > 1 => {
                    self.refuse_at(&port, "has no `name`, which is required where there are several ports");
                }
                Some(text) if !is_label(&text) => {
                    let wrong = format!("is `{text}`; the name of a port has lower-case letters, digits and `-`");
                    self.refuse_at(&name, &wrong);
                }
                Some(text) if names.contains(&text) => {
                    self.refuse_at(&name, &format!("is `{text}`, the name of another port"));
                }
                Some(text) => drop(names.insert(text)),
                None => {}
            }
        }
    }

    /// A port by number, or by the name that a container gives it.
    fn target_port(&mut self, pointer: &str) {
        self.number(pointer, 1, 65535);
        let name = self.at(pointer).as_str().map(ToOwned::to_owned);
        if let Some(name) = name.filter(|name| !is_port_name(name)) {
            let hint = if name.parse::<u16>().is_ok() { "; write a number without quotes" } else { "" };
            self.refuse_at(pointer, &format!("is {}, which is no name of a port{hint}", shown(&Value::String(name))));
        }
    }

    fn pod(&mut self, spec: &str) {
        let count = self.at(&format!("{spec}/containers")).as_array().map_or(0, Vec::len);
        if self.at(&format!("{spec}/containers")).is_array() && count == 0 {
            self.refuse_at(&format!("{spec}/containers"), "is empty");
        }
        let mut names = BTreeSet::new();
        for index in 0..count {
            let container = format!("{spec}/containers/{index}");
            let name = format!("{container}/name");
            if let Some(text) = self.at(&name).as_str().map(ToOwned::to_owned) {
                if !is_label(&text) {
                    let wrong = format!("is `{text}`; the name of a container has lower-case letters, digits and `-`");
                    self.refuse_at(&name, &wrong);
                } else if !names.insert(text.clone()) {
                    self.refuse_at(&name, &format!("is `{text}`, the name of another container"));
                }
            }
            if self.at(&format!("{container}/image")).is_null() {
                self.refuse_at(&container, "has no `image`");
            }
            self.one_of(&format!("{container}/imagePullPolicy"), &["Always", "IfNotPresent", "Never"]);
            for port in 0..self.at(&format!("{container}/ports")).as_array().map_or(0, Vec::len) {
                let port = format!("{container}/ports/{port}");
                self.number(&format!("{port}/containerPort"), 1, 65535);
                self.one_of(&format!("{port}/protocol"), &["TCP", "UDP", "SCTP"]);
            }
        }
        self.one_of(&format!("{spec}/restartPolicy"), &["Always", "OnFailure", "Never"]);
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Object(fields) => fields.is_empty(),
        Value::Array(items) => items.is_empty(),
        other => other.is_null(),
    }
}

/// Whether a text is the name of a port: at most 15 lower-case letters, digits and `-`, with a letter among them.
fn is_port_name(text: &str) -> bool {
    text.len() <= 15
        && is_label(text)
        && text.contains(|letter: char| letter.is_ascii_lowercase())
        && !text.contains("--")
}
