//! The process that owns a run, and whether it is still running. A sweep removes only resources whose owner has ended.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use displaydoc::Display;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// The inode of the initial PID namespace (`PROC_PID_INIT_INO`). A process in it runs on the host, not in a container.
const HOST_PID_NAMESPACE: u64 = 4_026_531_836;

/// The process that started a run, as stored in the label of a cluster's container and in the record of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Display)]
#[displaydoc("process {pid} on {hostname}")]
pub struct Owner {
    /// The machine id (`/etc/machine-id`); empty if there is none.
    pub machine: String,
    /// The host name.
    pub hostname: String,
    /// The boot id of the kernel.
    pub boot: String,
    /// The inode of the PID namespace; 0 if it cannot be read.
    pub pid_namespace: u64,
    /// The process id in the PID namespace.
    pub pid: u32,
    /// When the process started, in clock ticks since boot; 0 if it cannot be read.
    pub started: u64,
    /// The user id of the process.
    pub user: u32,
    /// A hash of the path of the cache folder.
    pub cache: String,
}

/// The state of a process, according to `/proc`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Process {
    /// It is running. The time of its start is in clock ticks since boot.
    Started(u64),
    /// It does not exist.
    Absent,
    /// `/proc` cannot be read.
    Unreadable,
}

/// Whether the owner of a run is running.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Life {
    /// It is running.
    Running,
    /// It has ended for certain.
    Ended,
    /// Unknown, with the reason.
    Unknown(String),
}

/// This process, and which other processes it can see.
#[derive(Debug, Clone)]
pub struct Observer {
    /// This process.
    pub own: Owner,
    /// Which processes `/proc` shows.
    pub sees: Sight,
}

/// Which processes of the PID namespace are visible.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sight {
    /// All processes.
    All,
    /// The processes of the same user (`hidepid`).
    OwnUser,
    /// No processes: `/proc` is missing or belongs to another PID namespace.
    Nothing,
}

impl Owner {
    /// This process, with its cache folder.
    pub fn this_process(cache: &Path) -> Self {
        Self::of(std::process::id(), cache)
    }

    /// A process of the same user in the same PID namespace, with this process's cache folder.
    pub fn of(pid: u32, cache: &Path) -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default().trim().to_owned();
        Self {
            machine: read("/etc/machine-id"),
            hostname: read("/proc/sys/kernel/hostname"),
            boot: read("/proc/sys/kernel/random/boot_id"),
            // the inode of the namespace is the inode of the link's target
            pid_namespace: fs::metadata("/proc/self/ns/pid").map_or(0, |metadata| metadata.ino()),
            pid,
            started: match process(pid) {
                Process::Started(at) => at,
                Process::Absent | Process::Unreadable => 0,
            },
            user: fs::metadata("/proc/self").map_or(u32::MAX, |metadata| metadata.uid()),
            cache: cache_hash(cache),
        }
    }

    /// Whether the process runs on this machine.
    pub fn is_running(&self) -> bool {
        matches!(process(self.pid), Process::Started(at) if at == self.started)
    }

    /// Parses the value of a label; none if it has another format, such as that of an earlier version.
    pub fn parse(label: &str) -> Option<Self> {
        serde_json::from_str(label).ok()
    }

    /// The value of a label.
    pub fn label(&self) -> String {
        serde_json::to_string(self).unwrap_or_else(|error| unreachable!("an owner is plain data: {error}"))
    }
}

impl Observer {
    /// This process.
    pub fn this_process(cache: &Path) -> Self {
        let own = Owner::this_process(cache);
        let shown = fs::read_link("/proc/self").ok().and_then(|link| link.to_str()?.parse::<u32>().ok());
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let sees = if shown != Some(own.pid) || own.started == 0 { Sight::Nothing } else { sight(&mounts) };
        Self { own, sees }
    }

    /// Whether an owner is running. It has ended for certain if the process does not exist on this kernel and in this PID namespace, or if
    /// both processes belong to the host itself and the host has rebooted.
    pub fn life(&self, owner: Option<&Owner>, process: impl Fn(u32) -> Process) -> Life {
        let unknown = |why: &str| Life::Unknown(why.to_owned());
        let Some(owner) = owner else { return unknown("an earlier version of shiftcheck started it") };
        let own = &self.own;
        if (&owner.machine, &owner.hostname) != (&own.machine, &own.hostname) {
            return Life::Unknown(format!("it was started on another host, {}", owner.hostname));
        }
        let on_host = |owner: &Owner| owner.pid_namespace == HOST_PID_NAMESPACE && !owner.machine.is_empty();
        if owner.boot.is_empty() || owner.boot != own.boot {
            return if !owner.boot.is_empty() && !own.boot.is_empty() && on_host(owner) && on_host(own) {
                Life::Ended
            } else {
                unknown("it was started on another kernel, which may be running")
            };
        }
        if owner.pid_namespace == 0 || owner.pid_namespace != own.pid_namespace {
            return unknown("it was started in another container (PID namespace)");
        }
        if owner.started == 0 || self.sees == Sight::Nothing {
            return unknown("/proc does not show its process");
        }
        match process(owner.pid) {
            Process::Started(at) if at == owner.started => Life::Running,
            Process::Started(_) => Life::Ended,
            Process::Absent if self.sees == Sight::All || owner.user == own.user => Life::Ended,
            Process::Absent | Process::Unreadable => unknown("/proc hides the processes of its user"),
        }
    }
}

/// The state of a process in this PID namespace.
pub fn process(pid: u32) -> Process {
    let stat = match fs::read_to_string(format!("/proc/{pid}/stat")) {
        Ok(stat) => stat,
        Err(error) if error.kind() == ErrorKind::NotFound => return Process::Absent,
        // ESRCH: the process ended between opening and reading
        Err(error) if error.raw_os_error() == Some(3) => return Process::Absent,
        Err(_) => return Process::Unreadable,
    };
    // the process name in parentheses may contain spaces; fields are counted after it
    let fields = || {
        let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
        Some((fields.next()?.to_owned(), fields.nth(18)?.parse().ok()?))
    };
    match fields() {
        // a zombie has ended
        Some((state, _)) if state == "Z" || state == "X" => Process::Absent,
        Some((_, started)) => Process::Started(started),
        None => Process::Unreadable,
    }
}

/// Which processes `/proc` shows, according to its mount options.
fn sight(mounts: &str) -> Sight {
    let proc = mounts.lines().filter_map(|line| {
        let fields: Vec<&str> = line.split(' ').collect();
        (fields.get(1) == Some(&"/proc")).then(|| fields.get(3).copied().unwrap_or_default().to_owned())
    });
    // a later mount hides an earlier one
    let options = proc.reduce(|_, later| later).unwrap_or_default();
    let hidden = options.split(',').filter_map(|option| option.strip_prefix("hidepid=")).next_back();
    if hidden.is_none_or(|hidden| matches!(hidden, "0" | "off")) { Sight::All } else { Sight::OwnUser }
}

fn cache_hash(cache: &Path) -> String {
    let path = cache.canonicalize().or_else(|_| std::path::absolute(cache)).unwrap_or_else(|_| cache.to_owned());
    hex::encode(&Sha256::digest(path.as_os_str().as_encoded_bytes())[..8])
}

#[cfg(test)]
mod tests {
    use assert_matches::assert_matches;
    use rstest::rstest;

    use super::*;

    fn owner() -> Owner {
        Owner {
            machine: "0123".to_owned(),
            hostname: "build-1".to_owned(),
            boot: "b1".to_owned(),
            pid_namespace: HOST_PID_NAMESPACE,
            pid: 100,
            started: 5000,
            user: 1000,
            cache: "c1".to_owned(),
        }
    }

    /// A change of the owner and of the observer.
    type Change = fn(&mut Owner, &mut Observer);

    #[rstest]
    #[case::its_process_runs(|_: &mut Owner, _: &mut Observer| {}, Process::Started(5000), "running")]
    #[case::its_process_ended(|_: &mut Owner, _: &mut Observer| {}, Process::Absent, "ended")]
    #[case::a_later_process_has_its_number(|_: &mut Owner, _: &mut Observer| {}, Process::Started(6000), "ended")]
    #[case::the_host_has_booted_since(|owner: &mut Owner, _: &mut Observer| owner.boot = "b0".into(), Process::Absent, "ended")]
    #[case::another_user(|owner: &mut Owner, _: &mut Observer| owner.user = 1001, Process::Absent, "ended")]
    #[case::another_cache(|owner: &mut Owner, _: &mut Observer| owner.cache = "c2".into(), Process::Started(5000), "running")]
    #[case::another_user_whose_processes_are_hidden(
        |owner: &mut Owner, own: &mut Observer| { owner.user = 1001; own.sees = Sight::OwnUser; }, Process::Absent, "hides the processes of its user")]
    #[case::own_user_where_others_are_hidden(|_: &mut Owner, own: &mut Observer| own.sees = Sight::OwnUser, Process::Absent, "ended")]
    #[case::its_process_cannot_be_read(|_: &mut Owner, _: &mut Observer| {}, Process::Unreadable, "hides the processes")]
    #[case::another_host_with_a_remote_engine(|owner: &mut Owner, _: &mut Observer| owner.hostname = "build-2".into(), Process::Absent, "on another host, build-2")]
    #[case::another_machine_of_that_name(|owner: &mut Owner, _: &mut Observer| owner.machine = "4567".into(), Process::Absent, "on another host")]
    #[case::a_container_of_ci_seen_from_the_host(|owner: &mut Owner, _: &mut Observer| owner.pid_namespace = 77, Process::Absent, "another container")]
    #[case::the_host_seen_from_a_container_of_ci(|_: &mut Owner, own: &mut Observer| own.own.pid_namespace = 77, Process::Absent, "another container")]
    #[case::both_in_one_container(
        |owner: &mut Owner, own: &mut Observer| { owner.pid_namespace = 77; own.own.pid_namespace = 77; }, Process::Absent, "ended")]
    #[case::containers_of_one_name_on_two_hosts(
        |owner: &mut Owner, own: &mut Observer| { owner.pid_namespace = 77; own.own.pid_namespace = 77; owner.boot = "b0".into(); },
        Process::Absent, "another kernel")]
    #[case::hosts_without_machine_ids(
        |owner: &mut Owner, own: &mut Observer| { owner.machine.clear(); own.own.machine.clear(); owner.boot = "b0".into(); }, Process::Absent, "another kernel")]
    #[case::a_boot_that_cannot_be_read(
        |owner: &mut Owner, own: &mut Observer| { owner.boot.clear(); own.own.boot.clear(); }, Process::Absent, "another kernel")]
    #[case::no_proc_here(|_: &mut Owner, own: &mut Observer| own.sees = Sight::Nothing, Process::Absent, "does not show its process")]
    #[case::no_proc_there(|owner: &mut Owner, _: &mut Observer| owner.started = 0, Process::Absent, "does not show its process")]
    #[case::no_namespace_there(|owner: &mut Owner, _: &mut Observer| owner.pid_namespace = 0, Process::Absent, "another container")]
    fn an_owner_has_ended_only_if_that_is_certain(
        #[case] change: Change,
        #[case] process: Process,
        #[case] expected: &str,
    ) {
        let mut owner = owner();
        let mut observer = Observer { own: owner.clone(), sees: Sight::All };
        change(&mut owner, &mut observer);
        match observer.life(Some(&owner), |pid| if pid == 100 { process } else { Process::Absent }) {
            Life::Running => assert_eq!(expected, "running"),
            Life::Ended => assert_eq!(expected, "ended"),
            Life::Unknown(why) => assert!(why.contains(expected), "{why}"),
        }
    }

    #[test]
    fn an_owner_of_an_earlier_version_is_unknown() {
        assert_eq!(Owner::parse("4242.81723.b20f1eac-1737-4237-8d42-04b41124e4a4"), None);
        let observer = Observer { own: owner(), sees: Sight::All };
        assert_matches!(observer.life(None, |_| Process::Absent), Life::Unknown(why) if why.contains("earlier version"));
    }

    #[test]
    fn this_process_is_running_and_a_killed_one_is_not() {
        let observer = Observer::this_process(Path::new("/tmp"));
        let own = &observer.own;
        assert_eq!(Owner::parse(&own.label()), Some(own.clone()));
        assert_eq!(observer.life(Some(own), process), Life::Running);
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let Process::Started(started) = process(child.id()) else { panic!("it runs") };
        let owner = Owner { pid: child.id(), started, ..own.clone() };
        assert_eq!(observer.life(Some(&owner), process), Life::Running);
        child.kill().unwrap();
        // it is a zombie until the call of `wait`
        while process(child.id()) != Process::Absent {
            std::thread::yield_now();
        }
        assert_eq!(observer.life(Some(&owner), process), Life::Ended);
        child.wait().unwrap();
        assert_eq!(observer.life(Some(&owner), process), Life::Ended);
    }

    #[rstest]
    #[case::usual("proc /proc proc rw,nosuid 0 0", Sight::All)]
    #[case::off("proc /proc proc rw,hidepid=off 0 0", Sight::All)]
    #[case::invisible("proc /proc proc rw,hidepid=invisible,gid=4 0 0", Sight::OwnUser)]
    #[case::by_number("proc /proc proc rw,hidepid=2 0 0", Sight::OwnUser)]
    #[case::the_last_mount("proc /proc proc rw 0 0\nproc /proc proc rw,hidepid=1 0 0", Sight::OwnUser)]
    #[case::elsewhere("proc /jail/proc proc rw,hidepid=2 0 0", Sight::All)]
    fn visible_processes_follow_from_the_mount_options_of_proc(#[case] mounts: &str, #[case] expected: Sight) {
        assert_eq!(sight(mounts), expected);
    }
}
