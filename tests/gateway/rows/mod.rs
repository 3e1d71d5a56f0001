//! A test for each row of the decision table, end to end, and the proof that none is left out.

mod evaluation;
mod guard;
mod hygiene;
mod introspection;
mod requests;
mod tickets;
mod upstream;

use std::collections::BTreeSet;

use uma_gateway::response::Row;

#[test]
fn every_row_of_the_decision_table_has_a_test() {
    let all =
        [evaluation::ROWS, guard::ROWS, hygiene::ROWS, introspection::ROWS, requests::ROWS, tickets::ROWS, upstream::ROWS, crate::websocket::ROWS].concat();
    let proved: BTreeSet<Row> = all.iter().copied().collect();
    let missing: Vec<Row> = Row::ALL.iter().copied().filter(|row| !proved.contains(row)).collect();
    assert!(missing.is_empty(), "rows without a test: {missing:?}");
    assert_eq!(proved.len(), all.len(), "a row is registered twice");
}
