//! What a configuration changes.

use keelson_api::v1alpha1::{
    ApplyConfigurationResponse, Change, DiffConfigurationResponse, ValidateConfigurationResponse,
};

use crate::output::{Body, Detail, Show};
use crate::table::Table;
use crate::terminal::printable;

impl Show for DiffConfigurationResponse {
    fn show(&self, _detail: Detail) -> Body {
        Body::Text(changes(&self.changes, self.reboot, &self.restarts))
    }
}

impl Show for ApplyConfigurationResponse {
    fn show(&self, _detail: Detail) -> Body {
        Body::Text(changes(&self.changes, self.reboot, &self.restarts))
    }
}

impl Show for ValidateConfigurationResponse {
    fn show(&self, _detail: Detail) -> Body {
        let verdict = if self.valid { "valid" } else { &self.problem };
        Body::Text(format!("{}\n", printable(verdict.trim_end())))
    }
}

fn changes(changes: &[Change], reboot: bool, restarts: &[String]) -> String {
    if changes.is_empty() {
        return "nothing changes\n".to_owned();
    }
    let mut table = Table::new(["KEY", "BEFORE", "AFTER", "TAKES"]);
    for change in changes {
        table.row([
            change.path.as_str().into(),
            change.before.trim_end().into(),
            change.after.trim_end().into(),
            change.effect.as_str().into(),
        ]);
    }
    let mut text = table.render(false);
    if !restarts.is_empty() {
        text.push_str(&format!("restarts: {}\n", printable(&restarts.join(", "))));
    }
    if reboot {
        text.push_str("a part of it needs a reboot: keelsonctl reboot --wait\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn consequences_are_said() {
        let change = Change {
            path: "hostname".to_owned(),
            before: "a\n".to_owned(),
            after: String::new(),
            effect: "reboot".to_owned(),
        };
        assert_eq!(
            changes(&[change], true, &["kubelet".to_owned()]),
            "KEY        BEFORE   AFTER   TAKES\n\
             hostname   a        -       reboot\n\
             restarts: kubelet\n\
             a part of it needs a reboot: keelsonctl reboot --wait\n"
        );
        assert_eq!(changes(&[], false, &[]), "nothing changes\n");
    }
}
