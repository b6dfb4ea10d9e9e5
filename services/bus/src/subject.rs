use spillway_types::MailboxId;

/// What a hint is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Subject {
    /// `spillway.internal.v1.MailboxHint`s for the sessions of one device. Interest in it is presence.
    Mailbox(MailboxId),
    /// `spillway.internal.v1.AccountChanged`, for everybody who caches accounts.
    AccountChanged,
}
