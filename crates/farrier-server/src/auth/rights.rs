//! The table of rights.

use farrier_engine::model::Role;

use super::Principal;

/// What can be done. A new action has no role that may do it until [`Action::least_role`] names one, since
/// the match there has no last arm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    ApproveMachine,
    CancelTask,
    CheckServer,
    CreateTask,
    DeleteImage,
    DeleteMachine,
    EditMachine,
    Look,
    ManageTokens,
    ManageUsers,
    /// Chunks hold whole disks, with the secrets on them.
    ReadImageContent,
    ReadAudit,
    ReleaseLease,
    SetPolicy,
    VerifyImage,
    WakeMachine,
    WriteImage,
}

impl Action {
    pub const ALL: [Self; 17] = [
        Self::ApproveMachine,
        Self::CancelTask,
        Self::CheckServer,
        Self::CreateTask,
        Self::DeleteImage,
        Self::DeleteMachine,
        Self::EditMachine,
        Self::Look,
        Self::ManageTokens,
        Self::ManageUsers,
        Self::ReadImageContent,
        Self::ReadAudit,
        Self::ReleaseLease,
        Self::SetPolicy,
        Self::VerifyImage,
        Self::WakeMachine,
        Self::WriteImage,
    ];

    /// The least role that may do it; the roles are ordered.
    #[must_use]
    pub const fn least_role(self) -> Role {
        match self {
            Self::Look => Role::Viewer,
            Self::ApproveMachine
            | Self::CancelTask
            | Self::CheckServer
            | Self::CreateTask
            | Self::EditMachine
            | Self::ReadImageContent
            | Self::ReleaseLease
            | Self::VerifyImage
            | Self::WakeMachine
            | Self::WriteImage => Role::Operator,
            Self::DeleteImage
            | Self::DeleteMachine
            | Self::ManageTokens
            | Self::ManageUsers
            | Self::ReadAudit
            | Self::SetPolicy => Role::Admin,
        }
    }

    /// Short and stable, for the audit log.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ApproveMachine => "machine.approve",
            Self::CancelTask => "task.cancel",
            Self::CheckServer => "server.check",
            Self::CreateTask => "task.create",
            Self::DeleteImage => "image.delete",
            Self::DeleteMachine => "machine.delete",
            Self::EditMachine => "machine.edit",
            Self::Look => "look",
            Self::ManageTokens => "token.manage",
            Self::ManageUsers => "user.manage",
            Self::ReadImageContent => "image.read",
            Self::ReadAudit => "audit.read",
            Self::ReleaseLease => "lease.release",
            Self::SetPolicy => "policy.set",
            Self::VerifyImage => "image.verify",
            Self::WakeMachine => "machine.wake",
            Self::WriteImage => "image.write",
        }
    }
}

/// The role is not enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this needs the role {}, and you have {}", role_name(*needed), role_name(*has))]
pub struct Forbidden {
    pub needed: Role,
    pub has: Role,
}

/// Whether `who` may do `action`. Everything people and programs do passes here.
pub fn authorize(who: &Principal, action: Action) -> Result<(), Forbidden> {
    let needed = action.least_role();
    if who.role >= needed {
        Ok(())
    } else {
        Err(Forbidden {
            needed,
            has: who.role,
        })
    }
}

/// As people write it.
#[must_use]
pub const fn role_name(role: Role) -> &'static str {
    match role {
        Role::Viewer => "viewer",
        Role::Operator => "operator",
        Role::Admin => "admin",
    }
}

#[cfg(test)]
mod tests {
    use farrier_engine::model::Role;

    use super::{Action, authorize};
    use crate::auth::{Principal, Via};

    /// Reviewed by hand: what each role may do. A change of the table must be repeated here.
    const VIEWER: [Action; 1] = [Action::Look];
    const OPERATOR: [Action; 10] = [
        Action::ApproveMachine,
        Action::CancelTask,
        Action::CheckServer,
        Action::CreateTask,
        Action::EditMachine,
        Action::ReadImageContent,
        Action::ReleaseLease,
        Action::VerifyImage,
        Action::WakeMachine,
        Action::WriteImage,
    ];

    #[test]
    fn t17_each_role_may_do_exactly_what_was_reviewed() {
        for action in Action::ALL {
            for role in [Role::Viewer, Role::Operator, Role::Admin] {
                let expected = match role {
                    Role::Viewer => VIEWER.contains(&action),
                    Role::Operator => VIEWER.contains(&action) || OPERATOR.contains(&action),
                    Role::Admin => true,
                };
                let who = Principal {
                    name: "x".to_owned(),
                    role,
                    via: Via::Token,
                    from: None,
                };
                assert_eq!(
                    authorize(&who, action).is_ok(),
                    expected,
                    "{role:?} {action:?}"
                );
            }
        }
    }

    #[test]
    fn names_of_actions_are_distinct() {
        let names: std::collections::BTreeSet<_> = Action::ALL.iter().map(|a| a.as_str()).collect();
        assert_eq!(names.len(), Action::ALL.len());
    }
}
