//! ServiceCIDRs.

use std::ops::Deref;

use serde::Deserialize;

use super::Metadata;
use super::names::Interner;
use super::problems::{Problem, Problems};
use crate::net::ObjectName;
use crate::state;

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(bound(deserialize = "S: Deserialize<'de> + Default"))]
pub struct ServiceCidr<S = String> {
    pub kind: Option<S>,
    pub metadata: Metadata<S>,
    #[serde(default)]
    pub spec: Option<ServiceCidrSpec<S>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, bound(deserialize = "S: Deserialize<'de> + Default"))]
pub struct ServiceCidrSpec<S = String> {
    pub cidrs: Option<Vec<S>>,
}

impl<S: Deref<Target = str>> ServiceCidr<S> {
    /// The fact, and what had to be left out.
    pub fn to_fact(&self, names: &mut Interner) -> (state::ServiceCidr, Vec<Problem>) {
        let name = ObjectName::new("", names.intern(&self.metadata.name));
        let mut problems = Problems::new("ServiceCIDR", &name);
        let texts = self.spec.as_ref().and_then(|spec| spec.cidrs.as_deref());
        let cidrs = problems.cidrs("spec.cidrs", texts).into();
        (state::ServiceCidr { name: name.name.clone(), cidrs }, problems.found)
    }
}
