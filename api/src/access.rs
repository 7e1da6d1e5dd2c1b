//! Who may call what: the one table that apid asks before a call is passed on.

use std::fmt;
use std::str::FromStr;

/// What a certificate allows its person; each includes the ones before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Nobody yet: a caller without a certificate, on a node in maintenance.
    Maintenance,
    /// Sees what is no secret.
    Reader,
    /// Keeps the node going: services, reboot, files for support.
    Operator,
    /// Everything.
    Admin,
}

impl Role {
    /// Roles a certificate can carry.
    pub const ALL: [Self; 3] = [Self::Reader, Self::Operator, Self::Admin];

    /// The word people use.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Maintenance => "maintenance",
            Self::Reader => "reader",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }

    /// The organization (O) in the subject of this role's certificates.
    #[must_use]
    pub fn organization(self) -> String {
        format!("{ORGANIZATION_PREFIX}{}", self.as_str())
    }

    /// The role an organization stands for; `None` when it stands for none.
    #[must_use]
    pub fn from_organization(organization: &str) -> Option<Self> {
        organization.strip_prefix(ORGANIZATION_PREFIX)?.parse().ok()
    }
}

/// Before the role's name in a certificate's organization.
const ORGANIZATION_PREFIX: &str = "keelson:";

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A word that is no role.
#[derive(Debug, PartialEq, Eq)]
pub struct UnknownRole(pub String);

impl fmt::Display for UnknownRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is no role: admin, operator or reader", self.0)
    }
}

impl std::error::Error for UnknownRole {}

impl FromStr for Role {
    type Err = UnknownRole;

    fn from_str(word: &str) -> Result<Self, UnknownRole> {
        Self::ALL
            .into_iter()
            .find(|role| role.as_str() == word)
            .ok_or_else(|| UnknownRole(word.to_owned()))
    }
}

/// Whether a call changes something: those leave an audit line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Changes something.
    Changes,
    /// Only looks.
    Reads,
    /// Looks at a secret, which is audited as well.
    Reveals,
}

/// Whom a call is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Audience {
    /// A certificate with this role or a higher one; in maintenance as well, where nobody has
    /// one.
    Anyone(Role),
    /// A certificate with this role or a higher one.
    Certified(Role),
    /// Only a caller without a certificate, and only on a node in maintenance.
    MaintenanceOnly,
}

/// One call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// `/package.Service/Method`.
    pub method: &'static str,
    /// Whom it is for.
    pub audience: Audience,
    /// What it does.
    pub effect: Effect,
}

macro_rules! rules {
    ($($method:literal $audience:ident $(($role:ident))? $effect:ident;)*) => {
        [$(Rule {
            method: $method,
            audience: Audience::$audience $((Role::$role))?,
            effect: Effect::$effect,
        }),*]
    };
}

/// Every call there is.
#[rustfmt::skip]
pub const RULES: &[Rule] = &rules! {
    "/grpc.health.v1.Health/Check"                    Anyone(Reader)      Reads;
    "/grpc.health.v1.Health/Watch"                    Anyone(Reader)      Reads;
    "/keelson.node.v1alpha1.Certificates/Issue"       Certified(Admin)    Changes;
    "/keelson.node.v1alpha1.Certificates/List"        Certified(Reader)   Reads;
    "/keelson.node.v1alpha1.Certificates/Revoke"      Certified(Admin)    Changes;
    "/keelson.node.v1alpha1.Configuration/Apply"      Certified(Admin)    Changes;
    "/keelson.node.v1alpha1.Configuration/Confirm"    Certified(Admin)    Changes;
    "/keelson.node.v1alpha1.Configuration/Diff"       Certified(Reader)   Reads;
    "/keelson.node.v1alpha1.Configuration/Get"        Certified(Reader)   Reads;
    "/keelson.node.v1alpha1.Configuration/Revert"     Certified(Admin)    Changes;
    "/keelson.node.v1alpha1.Configuration/Schema"     Certified(Reader)   Reads;
    "/keelson.node.v1alpha1.Configuration/Validate"   Certified(Reader)   Reads;
    "/keelson.node.v1alpha1.Files/List"               Certified(Operator) Reads;
    "/keelson.node.v1alpha1.Files/Read"               Certified(Operator) Reads;
    "/keelson.node.v1alpha1.Logs/Kernel"              Certified(Reader)   Reads;
    "/keelson.node.v1alpha1.Logs/Read"                Certified(Reader)   Reads;
    "/keelson.node.v1alpha1.Maintenance/Apply"        MaintenanceOnly     Changes;
    "/keelson.node.v1alpha1.Resources/Addresses"      Certified(Reader)   Reads;
    "/keelson.node.v1alpha1.Resources/Cgroups"        Certified(Reader)   Reads;
    "/keelson.node.v1alpha1.Resources/Disks"          Anyone(Reader)      Reads;
    "/keelson.node.v1alpha1.Resources/Memory"         Certified(Reader)   Reads;
    "/keelson.node.v1alpha1.Resources/Mounts"         Certified(Reader)   Reads;
    "/keelson.node.v1alpha1.Resources/Processes"      Certified(Reader)   Reads;
    "/keelson.node.v1alpha1.Resources/Routes"         Certified(Reader)   Reads;
    "/keelson.node.v1alpha1.Resources/Sockets"        Certified(Reader)   Reads;
    "/keelson.node.v1alpha1.Services/Describe"        Certified(Reader)   Reads;
    "/keelson.node.v1alpha1.Services/List"            Certified(Reader)   Reads;
    "/keelson.node.v1alpha1.Services/Restart"         Certified(Operator) Changes;
    "/keelson.node.v1alpha1.Services/Start"           Certified(Operator) Changes;
    "/keelson.node.v1alpha1.Services/Stop"            Certified(Operator) Changes;
    "/keelson.node.v1alpha1.System/BootReport"        Certified(Reader)   Reads;
    "/keelson.node.v1alpha1.System/Events"            Certified(Reader)   Reads;
    "/keelson.node.v1alpha1.System/Health"            Certified(Reader)   Reads;
    "/keelson.node.v1alpha1.System/Kubeconfig"        Certified(Admin)    Reveals;
    "/keelson.node.v1alpha1.System/Reboot"            Certified(Operator) Changes;
    "/keelson.node.v1alpha1.System/Reset"             Certified(Admin)    Changes;
    "/keelson.node.v1alpha1.System/Shutdown"          Certified(Operator) Changes;
    "/keelson.node.v1alpha1.System/Status"            Certified(Reader)   Reads;
    "/keelson.node.v1alpha1.System/SupportBundle"     Certified(Operator) Reads;
    "/keelson.node.v1alpha1.System/Version"           Anyone(Reader)      Reads;
    "/keelson.node.v1alpha1.Upgrades/Activate"        Certified(Admin)    Changes;
    "/keelson.node.v1alpha1.Upgrades/Begin"           Certified(Admin)    Changes;
    "/keelson.node.v1alpha1.Upgrades/Cancel"          Certified(Admin)    Changes;
    "/keelson.node.v1alpha1.Upgrades/Pause"           Certified(Admin)    Changes;
    "/keelson.node.v1alpha1.Upgrades/Resume"          Certified(Admin)    Changes;
    "/keelson.node.v1alpha1.Upgrades/Rollback"        Certified(Admin)    Changes;
    "/keelson.node.v1alpha1.Upgrades/Send"            Certified(Admin)    Changes;
    "/keelson.node.v1alpha1.Upgrades/Slots"           Certified(Reader)   Reads;
    "/keelson.node.v1alpha1.Upgrades/Status"          Certified(Reader)   Reads;
    "/keelson.node.v1alpha1.Upgrades/Verify"          Certified(Operator) Reads;
    "/metrics"                                        Certified(Reader)   Reads;
};

/// Why a call is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It needs a certificate.
    NoCertificate,
    /// The certificate's role is too low; this one is needed.
    RoleTooLow(Role),
    /// Only for a node in maintenance.
    NotInMaintenance,
    /// No such call.
    UnknownMethod,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoCertificate => f.write_str(
                "this call needs a client certificate; a node in maintenance answers only version, disks and apply",
            ),
            Self::RoleTooLow(needed) => write!(f, "this call needs the role {needed}"),
            Self::NotInMaintenance => {
                f.write_str("the node is configured; use `keelsonctl apply` with a certificate")
            }
            Self::UnknownMethod => f.write_str("this node has no such call"),
        }
    }
}

/// Decides on a call; the rule is returned for the audit.
///
/// # Errors
/// Why it is refused.
pub fn decide(method: &str, caller: Role) -> Result<&'static Rule, Refusal> {
    let rule = RULES
        .binary_search_by(|rule| rule.method.cmp(method))
        .ok()
        .and_then(|index| RULES.get(index))
        .ok_or(Refusal::UnknownMethod)?;
    match (rule.audience, caller) {
        (Audience::MaintenanceOnly, Role::Maintenance)
        | (Audience::Anyone(_), Role::Maintenance) => Ok(rule),
        (Audience::MaintenanceOnly, _) => Err(Refusal::NotInMaintenance),
        (Audience::Certified(_), Role::Maintenance) => Err(Refusal::NoCertificate),
        (Audience::Anyone(needed) | Audience::Certified(needed), role) if role < needed => {
            Err(Refusal::RoleTooLow(needed))
        }
        (Audience::Anyone(_) | Audience::Certified(_), _) => Ok(rule),
    }
}

#[cfg(test)]
mod tests {
    use prost::Message;
    use prost_types::FileDescriptorSet;

    use super::*;

    /// Methods of the .proto files, in the form of [`Rule::method`].
    fn methods() -> Vec<String> {
        let bytes = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
        let set = FileDescriptorSet::decode(&bytes[..]).unwrap();
        let mut methods = Vec::new();
        for file in &set.file {
            for service in &file.service {
                for method in &service.method {
                    methods.push(format!(
                        "/{}.{}/{}",
                        file.package(),
                        service.name(),
                        method.name()
                    ));
                }
            }
        }
        methods
    }

    #[test]
    fn every_method_has_a_rule_and_every_rule_a_method() {
        let mut methods = methods();
        // Defined by gRPC and Prometheus, not by us.
        methods.extend(["Check", "Watch"].map(|name| format!("/grpc.health.v1.Health/{name}")));
        methods.push(crate::METRICS_PATH.to_owned());
        methods.sort();
        let rules: Vec<_> = RULES.iter().map(|rule| rule.method.to_owned()).collect();
        assert_eq!(
            rules, methods,
            "api/src/access.rs must name every method once, sorted"
        );
    }

    #[test]
    fn who_may_not_change_may_not_change() {
        for rule in RULES {
            let reader = decide(rule.method, Role::Reader);
            if rule.effect != Effect::Reads {
                assert!(reader.is_err(), "{} is open to readers", rule.method);
            }
            let operator = decide(rule.method, Role::Operator);
            if rule.effect == Effect::Reveals {
                assert!(operator.is_err(), "{} is open to operators", rule.method);
            }
            let admin = decide(rule.method, Role::Admin);
            assert_eq!(
                admin.is_ok(),
                rule.audience != Audience::MaintenanceOnly,
                "{}",
                rule.method
            );
        }
    }

    #[test]
    fn maintenance_opens_three_things() {
        let open: Vec<_> = RULES
            .iter()
            .filter(|rule| decide(rule.method, Role::Maintenance).is_ok())
            .map(|rule| rule.method.rsplit('.').next().unwrap())
            .collect();
        assert_eq!(
            open,
            [
                "Health/Check",
                "Health/Watch",
                "Maintenance/Apply",
                "Resources/Disks",
                "System/Version"
            ]
            .map(|name| name.trim_start_matches("v1."))
        );
        assert_eq!(decide("/x/Y", Role::Admin), Err(Refusal::UnknownMethod));
    }

    #[test]
    fn roles_survive_a_certificate() {
        for role in Role::ALL {
            assert_eq!(Role::from_organization(&role.organization()), Some(role));
        }
        for other in [
            "admin",
            "keelson:root",
            "keelson:maintenance",
            "keelson:",
            "system:masters",
        ] {
            assert_eq!(Role::from_organization(other), None, "{other}");
        }
    }
}
