use std::os::unix::fs::{chown, lchown, symlink};

use rustix::fs::{FileType, Mode, mknodat};
use rustix::process::Uid;
use rustix::thread::set_thread_res_uid;
use tempfile::TempDir;

use super::*;

/// A user that is not root.
const OTHER: u32 = 4_711;

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

fn names(folder: &Path) -> Vec<String> {
    let found = fs::read_dir(folder).unwrap();
    let mut names: Vec<String> = found
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn a_file_is_whole_and_has_its_mode_and_a_new_one_takes_no_place() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a");
    create(&path, b"one", 0o644).unwrap();
    assert_eq!(
        (fs::read(&path).unwrap(), mode(&path)),
        (b"one".to_vec(), 0o644)
    );
    let again = create(&path, b"two", 0o600).unwrap_err();
    assert_eq!(again.kind(), io::ErrorKind::AlreadyExists);
    assert_eq!(fs::read(&path).unwrap(), b"one");
    replace(&path, b"two", 0o600).unwrap();
    assert_eq!(
        (fs::read(&path).unwrap(), mode(&path)),
        (b"two".to_vec(), 0o600)
    );
    assert_eq!(names(folder.path()), ["a"]);
}

#[test]
fn only_a_file_is_opened_and_what_cannot_be_seen_is_not_called_absent() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    fs::write(at("file"), "content").unwrap();
    symlink(at("file"), at("link")).unwrap();
    for name in ["file", "link"] {
        assert_eq!(read(&at(name)).unwrap(), b"content");
    }
    mknodat(CWD, at("pipe"), FileType::Fifo, Mode::RUSR, 0).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
    fs::create_dir(at("folder")).unwrap();
    for (name, what) in [
        ("pipe", "a pipe"),
        ("socket", "a socket or a device"),
        ("folder", "a folder"),
        ("/dev/zero", "a socket or a device"),
    ] {
        let refused = open(&at(name)).unwrap_err().to_string();
        assert_eq!(must_be_file(&at(name)).unwrap_err().to_string(), refused);
        assert_eq!(refused, format!("it is {what}, not a file"));
        assert!(!is_absent(&at(name)));
    }
    symlink("loop", at("loop")).unwrap();
    symlink("none", at("astray")).unwrap();
    for there in ["loop", "astray", "loop/x", "file/x"] {
        assert!(
            open(&at(there)).is_err() && !is_absent(&at(there)),
            "{there}"
        );
    }
    let none = open(&at("none")).unwrap_err();
    assert!(none.kind() == io::ErrorKind::NotFound && is_absent(&at("none")));
}

#[test]
fn what_a_killed_process_left_is_no_obstacle_and_what_a_living_one_writes_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a");
    fs::write(beside(&path, "draft"), "half").unwrap();
    let draft = Draft::write(&path, b"whole", 0o600).unwrap();
    let other = create(&path, b"other", 0o600).unwrap_err();
    assert_eq!(other.kind(), io::ErrorKind::WouldBlock);
    draft.settle().unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"whole");
    assert_eq!(names(folder.path()), ["a"]);
    drop(Draft::write(&path, b"never", 0o600).unwrap());
    assert_eq!(names(folder.path()), ["a"]);
}

#[test]
fn what_is_put_where_the_draft_goes_is_neither_written_through_nor_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let (path, draft) = (at("a"), beside(&at("a"), "draft"));
    fs::write(at("victim"), "another's").unwrap();
    symlink(at("victim"), &draft).unwrap();
    replace(&path, b"one", 0o600).unwrap();
    symlink(at("nowhere"), &draft).unwrap();
    replace(&path, b"two", 0o600).unwrap();
    mknodat(CWD, &draft, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    replace(&path, b"three", 0o600).unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"three");
    assert_eq!(fs::read(at("victim")).unwrap(), b"another's");
    assert_eq!(names(folder.path()), ["a", "victim"]);
}

#[test]
fn a_link_in_its_place_stays_one_and_one_that_leads_nowhere_does_not() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    fs::create_dir(at("real")).unwrap();
    fs::write(at("real/a"), "old").unwrap();
    symlink("real/a", at("a")).unwrap();
    replace(&at("a"), b"new", 0o600).unwrap();
    assert!(fs::symlink_metadata(at("a")).unwrap().is_symlink());
    assert_eq!(fs::read(at("real/a")).unwrap(), b"new");
    symlink("real/b", at("b")).unwrap();
    for link in ["a", "b"] {
        let refused = create(&at(link), b"other", 0o600).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::AlreadyExists);
    }
    replace(&at("b"), b"here", 0o600).unwrap();
    assert!(fs::symlink_metadata(at("b")).unwrap().is_file());
    assert_eq!(names(&at("real")), ["a"]);
}

fn is_root() -> bool {
    let is_root = rustix::process::geteuid().is_root();
    if !is_root {
        println!("skipped: only root has files of two users");
    }
    is_root
}

/// Another user's name for a thread, which ends with it.
fn as_other<T: Send>(act: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| {
        let other = scope.spawn(|| {
            let user = Uid::from_raw(OTHER);
            set_thread_res_uid(user, user, user).unwrap();
            act()
        });
        other.join().unwrap()
    })
}

/// A folder where everyone may write, and a file in it, which is another's.
fn shared() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), Permissions::from_mode(0o777)).unwrap();
    let path = folder.path().join("a");
    fs::write(&path, "old").unwrap();
    chown(&path, Some(OTHER), Some(OTHER)).unwrap();
    (folder, path)
}

#[test]
fn root_leaves_a_file_its_owner_where_the_folder_is_his_too_and_gives_none_away_elsewhere() {
    if !is_root() {
        return;
    }
    let (folder, path) = shared();
    let owner = |path: &Path| fs::metadata(path).map(|found| (found.uid(), found.gid()));
    let refused = replace(&path, b"secret", 0o600).unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::PermissionDenied);
    let words = refused.to_string();
    assert!(
        words.contains("user 4711") && words.contains("chown 0"),
        "{words}"
    );
    assert_eq!(fs::read(&path).unwrap(), b"old");
    chown(folder.path(), Some(OTHER), None).unwrap();
    replace(&path, b"his", 0o600).unwrap();
    assert_eq!(owner(&path).unwrap(), (OTHER, OTHER));
    chown(folder.path(), Some(0), None).unwrap();
    replace(&path, b"for all", 0o644).unwrap();
    assert_eq!(owner(&path).unwrap().0, 0);
    chown(&path, Some(OTHER), Some(OTHER)).unwrap();
    fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
    replace(&path, b"handed over", 0o600).unwrap();
    assert_eq!(owner(&path).unwrap(), (OTHER, OTHER));
    assert_eq!(names(folder.path()), ["a"]);
}

#[test]
fn root_follows_no_link_of_another_user_and_none_to_one() {
    if !is_root() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    fs::write(at("a"), "old").unwrap();
    symlink("a", at("second")).unwrap();
    symlink("second", at("first")).unwrap();
    replace(&at("first"), b"new", 0o600).unwrap();
    assert_eq!(fs::read(at("a")).unwrap(), b"new");
    lchown(at("second"), Some(OTHER), None).unwrap();
    for link in ["first", "second"] {
        let refused = replace(&at(link), b"newest", 0o600).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::PermissionDenied, "{link}");
    }
    assert_eq!(fs::read(at("a")).unwrap(), b"new");
    assert_eq!(names(folder.path()), ["a", "first", "second"]);
}

#[test]
fn links_that_go_in_a_circle_are_no_place() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    symlink("b", at("a")).unwrap();
    symlink("a", at("b")).unwrap();
    assert!(replace(&at("a"), b"new", 0o600).is_err());
    assert_eq!(names(folder.path()), ["a", "b"]);
}

#[test]
fn nobody_takes_from_an_owner_what_the_owner_alone_may_read() {
    if !is_root() {
        return;
    }
    let (folder, path) = shared();
    chown(&path, Some(0), Some(0)).unwrap();
    let (secret, open) = as_other(|| {
        let secret = replace(&path, b"other", 0o600).unwrap_err();
        (secret, replace(&path, b"other", 0o644))
    });
    assert_eq!(secret.kind(), io::ErrorKind::PermissionDenied);
    let words = secret.to_string();
    assert!(
        words.contains("user 0") && words.contains("chown 4711"),
        "{words}"
    );
    open.unwrap();
    assert_eq!(names(folder.path()), ["a"]);
}

#[test]
fn where_a_file_stands_none_is_begun_anew_whosever_it_is() {
    if !is_root() {
        return;
    }
    let (folder, path) = shared();
    chown(folder.path(), Some(OTHER), None).unwrap();
    let refused = create_with(&path, 0o600, |_| panic!("it is written")).unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::AlreadyExists);
    chown(&path, Some(0), Some(0)).unwrap();
    let refused = as_other(|| create(&path, b"other", 0o600).unwrap_err());
    assert_eq!(refused.kind(), io::ErrorKind::AlreadyExists);
    assert_eq!(names(folder.path()), ["a"]);
}

#[test]
fn a_link_that_cannot_take_the_draft_s_name_away_leaves_nothing_in_the_place() {
    if !is_root() {
        return;
    }
    let (folder, _) = shared();
    let drafts = tempfile::tempdir_in(folder.path()).unwrap();
    fs::set_permissions(drafts.path(), Permissions::from_mode(0o755)).unwrap();
    let (draft, place) = (drafts.path().join("draft"), folder.path().join("b"));
    fs::write(&draft, "new").unwrap();
    chown(&draft, Some(OTHER), None).unwrap();
    let failed = as_other(|| link_new(&draft, &place).unwrap_err());
    assert_eq!(failed.kind(), io::ErrorKind::PermissionDenied);
    assert!(draft.exists() && !place.exists());
    link_new(&draft, &place).unwrap();
    assert!(place.exists() && !draft.exists());
}

#[test]
fn a_lock_waits_at_no_pipe_and_takes_none_for_its_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("lock");
    mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    let take = || {
        let (told, tells) = std::sync::mpsc::sync_channel(1);
        let path = path.clone();
        thread::spawn(move || told.send(Lock::take(&path, true, Duration::ZERO).is_err()));
        tells.recv_timeout(Duration::from_secs(5))
    };
    assert_eq!(take(), Ok(true));
    let mut options = OpenOptions::new();
    let _reader = options.read(true).write(true).open(&path).unwrap();
    assert_eq!(take(), Ok(true));
}

#[test]
fn folders_are_made_for_their_owner_and_those_that_stand_are_left() {
    let folder = tempfile::tempdir().unwrap();
    let deep = folder.path().join("a/b/c");
    make_folder(&deep).unwrap();
    assert!([&deep, deep.parent().unwrap()].map(mode) == [0o700; 2]);
    fs::set_permissions(&deep, Permissions::from_mode(0o755)).unwrap();
    make_folder(&deep).unwrap();
    assert_eq!(mode(&deep), 0o755);
    fs::write(folder.path().join("file"), "").unwrap();
    assert!(make_folder(&folder.path().join("file/d")).is_err());
    make_folder(Path::new("")).unwrap();
}
