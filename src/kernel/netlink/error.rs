//! What can go wrong between us and the kernel.

use std::fmt;
use std::time::Duration;

use nix::errno::Errno;

/// The kernel's "no" to one request (`NLMSG_ERROR`, with the extended acknowledgement's words where it has any).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The error number, positive. Some families have numbers of their own beyond those of `errno`.
    pub code: i32,
    /// What the kernel says about it (`NLMSGERR_ATTR_MSG`).
    pub text: Option<Box<str>>,
    /// The place in the request that it is about, in bytes from its start (`NLMSGERR_ATTR_OFFS`).
    pub offset: Option<u32>,
    /// What came back of the request from behind its header, [`Refusal::ECHO`] bytes at most: ipset answers in it. Empty
    /// if nothing came back.
    pub echo: Box<[u8]>,
}

impl Refusal {
    /// How much of a request that came back is kept, in bytes.
    pub(super) const ECHO: usize = 64;

    /// The number as an `errno`; [`Errno::UnknownErrno`] if it is a family's own.
    pub fn errno(&self) -> Errno {
        Errno::from_raw(self.code)
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.errno() {
            Errno::UnknownErrno => write!(f, "error {}", self.code)?,
            errno => errno.fmt(f)?,
        }
        if let Some(text) = &self.text {
            write!(f, ": {text}")?;
        }
        if let Some(offset) = self.offset {
            write!(f, " (at byte {offset} of the request)")?;
        }
        f.write_str(remedy(self.errno()))
    }
}

/// A conversation with the kernel failed. `asked` is what was asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NetlinkError {
    /// A system call on the socket failed.
    #[error("cannot {asked}: {call} on a netlink socket: {errno}{}", remedy(*errno))]
    Call { asked: &'static str, call: &'static str, errno: Errno },
    /// The kernel refused the request.
    #[error("cannot {asked}: the kernel refused: {refusal}")]
    Refused { asked: &'static str, refusal: Refusal },
    /// No answer came.
    #[error("cannot {asked}: the kernel gave no answer within {} ms", after.as_millis())]
    Timeout { asked: &'static str, after: Duration },
    /// Answers were lost because they were not read fast enough (`ENOBUFS`): what became of the requests is unknown.
    #[error(
        "cannot {asked}: the kernel's answers overran the receive buffer; try again, with fewer requests at a time"
    )]
    Overrun { asked: &'static str },
    /// An answer is not as netlink says it is.
    #[error("cannot {asked}: the kernel's answer is malformed: {what}")]
    Malformed { asked: &'static str, what: &'static str },
    /// A request is longer than its length field can say. Nothing was sent.
    #[error("cannot {asked}: an attribute of the request is longer than 65535 bytes")]
    TooLong { asked: &'static str },
}

impl NetlinkError {
    /// The error number of a refusal or of a failed call.
    pub fn errno(&self) -> Option<Errno> {
        match self {
            NetlinkError::Call { errno, .. } => Some(*errno),
            NetlinkError::Refused { refusal, .. } => Some(refusal.errno()),
            NetlinkError::Overrun { .. } => Some(Errno::ENOBUFS),
            NetlinkError::Timeout { .. } | NetlinkError::Malformed { .. } | NetlinkError::TooLong { .. } => None,
        }
    }
}

/// What to do about the errors that have one cause.
fn remedy(errno: Errno) -> &'static str {
    match errno {
        Errno::EPERM | Errno::EACCES => "; the process needs the capability CAP_NET_ADMIN",
        Errno::EPROTONOSUPPORT | Errno::EAFNOSUPPORT => "; the kernel lacks this part of netlink: load its module",
        _ => "",
    }
}
