//! Every packet of `rules/scenarios`, followed through the rules of both variants.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use weir::kernel::xtables::variant::Variant;
use weir::model::oracle::judge;
use weir::net::Family;
use weir::sim::scenario::{Scenario, Step};
use weir::sim::trace::trace;
use weir::state::State;

use crate::cluster::model;
use crate::kernel::Programmed;

pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("rules/scenarios")
}

/// Expected verdict, oracle and rules agree: after a full write as after each change.
#[test]
fn every_packet_meets_its_verdict() {
    let mut wrong = Vec::new();
    let mut packets = 0;
    for scenario in Scenario::load_all(&folder()).unwrap() {
        for variant in Variant::ALL {
            let settings = Arc::new(scenario.settings.clone());
            let mut state = State::default();
            let mut programmed = Programmed::new(variant, &settings, Vec::new());
            for step in &scenario.steps {
                state.apply(step.updates.clone());
                programmed.change(model(&state));
                check(&scenario, step, &state, &mut programmed, &mut wrong);
                let mut afresh = Programmed::new(variant, &settings, model(&state));
                check(&scenario, step, &state, &mut afresh, &mut wrong);
                packets += step.packets.len();
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(packets > 500, "only {packets} packets");
}

fn check(scenario: &Scenario, step: &Step, state: &State, programmed: &mut Programmed, wrong: &mut Vec<String>) {
    let model = model(state);
    let rules = Family::ALL.map(|family| (family, programmed.rules(family)));
    for flow in &step.packets {
        let family = Family::of(&flow.packet.destination);
        let Some((_, rules)) = rules.iter().find(|(of, _)| *of == family) else { continue };
        let oracle = judge(model.iter().map(|port| &**port), &scenario.settings, &scenario.host, &flow.packet);
        let traced = trace(rules, &scenario.host, &flow.packet).map(|traced| traced.verdict);
        let agree = traced.as_ref().is_ok_and(|v| v.agrees_with(&flow.expect)) && oracle.agrees_with(&flow.expect);
        if !agree {
            let place = format!("{}, {}, row {}", scenario.name, step.about, flow.row);
            let packet = &flow.packet;
            wrong.push(format!(
                "{place}: {packet:?}\n  expected {:?}\n  oracle {oracle:?}\n  rules {traced:?}",
                flow.expect
            ));
        }
    }
}
