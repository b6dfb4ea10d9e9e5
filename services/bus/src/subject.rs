use spillway_types::MailboxId;

/// What a hint is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Subject {
    /// `spillway.internal.v1.MailboxHint`s for the sessions of one device. Interest in it is presence.
    Mailbox(MailboxId),
    /// `spillway.internal.v1.AccountChanged`, for everybody who caches accounts.
    AccountChanged,
    /// `spillway.internal.v1.NumberListed`, for everybody who keeps in memory which numbers can be found.
    NumberListed,
    /// `spillway.internal.v1.LoadBeacon`s: what each process of the fleet has to do, once a second.
    Load,
    /// `spillway.internal.v1.ControlState`s: what the holder of the control lease says, once a second.
    Control,
}
