//! Problems of objects: each is logged and counted once, until it is gone and comes back.

use std::collections::HashMap;
use std::sync::Arc;

use super::status::Status;
use crate::net::ObjectName;
use crate::source::wire::Problem;

/// The problems that objects of one kind have now.
pub(super) struct ProblemLog {
    known: HashMap<ObjectName, Known>,
    /// Counts lists, so that objects which are not in the new one can be forgotten.
    list: u64,
    status: Arc<Status>,
}

struct Known {
    problems: Vec<Problem>,
    /// The list during or after which the object was last seen with problems.
    list: u64,
}

impl ProblemLog {
    pub fn new(status: Arc<Status>) -> ProblemLog {
        ProblemLog { known: HashMap::new(), list: 0, status }
    }

    /// These are all problems of the object: logs the ones that are new.
    pub fn found(&mut self, object: &ObjectName, problems: Vec<Problem>) {
        if problems.is_empty() {
            self.known.remove(object);
            return;
        }
        let before = self.known.get(object).map(|known| known.problems.as_slice()).unwrap_or_default();
        for problem in problems.iter().filter(|problem| !before.contains(problem)) {
            tracing::warn!(
                object = %problem.object,
                field = %problem.field,
                value = %problem.value,
                expected = problem.expected,
                "left out part of an object"
            );
            self.status.found_problem(object, problem);
        }
        self.known.insert(object.clone(), Known { problems, list: self.list });
    }

    /// The object is gone.
    pub fn forget(&mut self, object: &ObjectName) {
        self.known.remove(object);
    }

    /// A list begins, perhaps again.
    pub fn list_begins(&mut self) {
        self.list += 1;
    }

    /// The list is complete: objects that were not in it are gone.
    pub fn list_ends(&mut self) {
        self.known.retain(|_, known| known.list == self.list);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_counts_once_until_it_comes_back() {
        let status = Arc::new(Status::default());
        let mut log = ProblemLog::new(status.clone());
        let name = |name: &str| ObjectName::new("ns", name);
        let problem = |value: &str| Problem {
            object: "Service ns/a".to_owned(),
            field: "spec.externalIPs[0]".to_owned(),
            value: value.to_owned(),
            expected: "an address",
        };
        log.found(&name("a"), vec![problem("x")]);
        log.found(&name("a"), vec![problem("x")]);
        assert_eq!(status.problems(), 1);
        log.found(&name("a"), vec![problem("x"), problem("y")]);
        assert_eq!(status.problems(), 2);
        log.found(&name("a"), vec![]);
        log.found(&name("a"), vec![problem("x")]);
        assert_eq!(status.problems(), 3, "it was fixed in between");
        log.found(&name("b"), vec![problem("x")]);
        log.list_begins();
        log.list_begins();
        log.found(&name("a"), vec![problem("x")]);
        log.list_ends();
        assert_eq!(status.problems(), 4, "a relist tells nothing new");
        log.found(&name("b"), vec![problem("x")]);
        assert_eq!(status.problems(), 5, "b had been deleted");
        log.forget(&name("b"));
        log.found(&name("b"), vec![problem("x")]);
        assert_eq!(status.problems(), 6);
    }
}
