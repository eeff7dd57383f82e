//! The texts that clients get, in one place.

/// `WBL.WAIT` ran into its time-out.
pub const WAIT_TIMEOUT: &str = "TIMEOUT the log was not durable in time";
/// `WBL.WAIT` with a bad time-out.
pub const BAD_TIMEOUT: &str = "ERR timeout is not an integer or out of range";
/// A command that needs the log while there is none.
pub const NOT_ENABLED: &str = "ERR the write-behind log is not enabled";
/// A command that needs the log while the server is a replica.
pub const IS_REPLICA: &str = "ERR the write-behind log is not active on a replica";
/// A command that needs the log on a replica that has none.
pub const NO_REPLICA_LOG: &str = "ERR the replica has no write-behind log now: wbl_safe_why says why";
/// `WBL.DEBUG` without `wbl.debug-commands yes`.
pub const DEBUG_REFUSED: &str = "ERR WBL.DEBUG command not allowed. Set wbl.debug-commands to yes in the configuration file or as a module argument, and then restart the server.";
/// `WBL.DEBUG` with something that it does not know.
pub const DEBUG_SUBCOMMAND: &str = "ERR unknown WBL.DEBUG subcommand. Try EXPLAIN command, PAUSE, RESUME, SYNC HOLD, SYNC RELEASE, POINT name STOP|KILL|CLEAR, COLLECT ALL|SOME.";
/// `WBL.DEBUG EXPLAIN` where commands are not looked at.
pub const NOT_EXPLAINED: &str = "ERR WBL.DEBUG EXPLAIN takes a command, while the log is not disabled";
/// `WBL.DEBUG POINT` with a name that no point has.
pub const NO_SUCH_POINT: &str = "ERR no such point";
/// A checkpoint is being written already.
pub const CHECKPOINT_RUNS: &str = "ERR a checkpoint is already in progress";
/// `WBL.BACKUP` with something that it does not know.
pub const BACKUP_SUBCOMMAND: &str = "ERR unknown WBL.BACKUP subcommand. Try START, STATUS, END name.";
/// A command about backups is being run already.
pub const BACKUP_RUNS: &str = "ERR another WBL.BACKUP is in progress";
/// A command that needs a wait before it that cannot be made in the filter.
pub const PAUSED: &str = "BUSY WBL.DEBUG PAUSE is on, and the command would have to wait for the RESUME";
/// `CONFIG SET` of what would make the server write its own append-only file to the log's folder.
pub const AOF_IN_FOLDER: &str = "ERR the server's own append-only file (dir, appenddirname) would be in the folder of the log, whose files it removes";
/// The server has less than its own log holds, and sends that to nobody. A replica tries again after such an answer.
pub const LACKS_DATA: &str = "NOMASTERLINK The data of this server are in its log, which a restart brings back";
/// The client cannot be blocked here.
pub const CANNOT_BLOCK: &str = "ERR this command is not allowed inside a transaction or script";
/// The command that was to be run through the module is unknown or has the wrong number of arguments.
pub const CALL_REFUSED: &str = "ERR unknown command or wrong number of arguments";

/// The server's words for a WAITAOF without an append-only file.
pub const WAITAOF_WITHOUT_LOG: &str = "ERR WAITAOF cannot be used when numlocal is set but appendonly is disabled.";
/// The server's words for a WAITAOF on a replica.
pub const WAITAOF_ON_REPLICA: &str = "ERR WAITAOF cannot be used with replica instances. Please also note that writes to replicas are just local and are not propagated.";
/// The server's words for an EXEC when it has refused one of its commands.
pub const EXEC_ABORTED: &str = "EXECABORT Transaction discarded because of previous errors.";

/// The same for an EXEC that it refuses as such.
pub fn exec_aborted_by(refusal: &str) -> String {
    format!("EXECABORT Transaction discarded because of: {refusal}")
}

/// The server's words for a key of another type.
pub const WRONG_TYPE: &str = "WRONGTYPE Operation against a key holding the wrong kind of value";

/// The checkpoint could not be written.
pub fn checkpoint_failed(reason: &str) -> String {
    format!("ERR no checkpoint: {}", one_line(reason))
}

/// A backup could not be made, listed or removed.
pub fn backup_failed(reason: &str) -> String {
    format!("ERR no backup: {}", one_line(reason))
}

/// Writes are refused because the log cannot begin.
pub fn no_log(reason: &str) -> String {
    format!("MISCONF Writes are refused because they could not be kept: {}", one_line(reason))
}

/// Reads and writes are refused because memory has less than the log.
pub fn lacks_data(reason: &str) -> String {
    format!("MISCONF Reads and writes are refused because the server has less than its log holds: {}", one_line(reason))
}

/// The command would have to wait for a disk that fails.
pub fn disk_fails(reason: &str) -> String {
    format!("MISCONF Errors writing to the write-behind log: {}", one_line(reason))
}

/// There is no log because it could not begin.
pub fn without_log(reason: &str) -> String {
    format!("{NOT_ENABLED}: {}", one_line(reason))
}

/// An error reply is one line.
fn one_line(text: &str) -> String {
    text.replace(['\r', '\n', '\0'], " ")
}

/// A wrong number of arguments, in the server's words.
pub fn wrong_arity(command: &str) -> String {
    format!("ERR wrong number of arguments for '{command}' command")
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_text_begins_with_an_error_code() {
        let texts = [
            super::WAIT_TIMEOUT,
            super::BAD_TIMEOUT,
            super::NOT_ENABLED,
            super::IS_REPLICA,
            super::DEBUG_REFUSED,
            super::DEBUG_SUBCOMMAND,
            super::NO_SUCH_POINT,
            super::NOT_EXPLAINED,
            super::CHECKPOINT_RUNS,
            super::BACKUP_SUBCOMMAND,
            super::BACKUP_RUNS,
            super::AOF_IN_FOLDER,
            super::LACKS_DATA,
            super::PAUSED,
            super::CANNOT_BLOCK,
            super::CALL_REFUSED,
            super::WRONG_TYPE,
            super::WAITAOF_WITHOUT_LOG,
            super::WAITAOF_ON_REPLICA,
        ];
        for text in texts {
            let code = text.split(' ').next().unwrap_or_default();
            assert!(!code.is_empty() && code.chars().all(|c| c.is_ascii_uppercase()), "{text}");
        }
    }
}
