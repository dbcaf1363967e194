//! Unpacking: contents become blobs, of which hard links make the artifact's tree, as in a store. A tree gets its name when
//! all of it is on the disk.

const std = @import("std");
const system = @import("system.zig");
const workers = @import("workers.zig");
const frames = @import("frames.zig");
const format = @import("payload.zig");
const inherited = @import("inherited.zig");
const linux = system.linux;
const Path = system.Path;

/// A folder that artifacts are unpacked in, held by a lock.
pub const Place = struct {
    path: []const u8,
    top: i32,
    blobs: i32,
    artifacts: i32,
    temporary: i32,

    /// Makes it where it is not, and waits for others that change it.
    pub fn open(path: [:0]const u8) Place {
        // Who takes everything away takes the folder too: then again, as often as may be.
        for (0..100) |_| {
            make(path);
            if (existing(path)) |place| return place;
        }
        refuse(path, .NOENT);
    }

    /// The same where it is there already.
    pub fn existing(path: [:0]const u8) ?Place {
        while (true) {
            const opened = linux.openat(here, path, .{ .DIRECTORY = true, .CLOEXEC = true }, 0);
            if (linux.errno(opened) == .NOENT) return null;
            if (linux.errno(opened) != .SUCCESS) refuse(path, linux.errno(opened));
            const top: i32 = @intCast(opened);
            const locked = lock(top);
            if (!same(top, path)) {
                system.close(top);
                continue;
            }
            const place: Place = .{
                .path = path,
                .top = top,
                .blobs = below(top, "blobs", path),
                .artifacts = below(top, "artifacts", path),
                .temporary = below(top, "tmp", path),
            };
            // We hold the lock: what is in there was left by somebody who was killed.
            if (locked) system.each_name(place.temporary, {}, sweep);
            return place;
        }
    }

    pub fn has(place: *const Place, folder: []const u8) bool {
        var found: system.Stat = undefined;
        return linux.errno(system.stat(place.artifacts, system.join(&.{folder}), &found)) == .SUCCESS;
    }

    /// Removes an artifact, and what it shared with no other.
    pub fn remove(place: *const Place, payload: *const format.Payload) void {
        const all = payload.all();
        const folder = system.join(&.{payload.folder});
        const opened = linux.openat(place.artifacts, folder, system.directory, 0);
        if (linux.errno(opened) == .SUCCESS) {
            // A directory that moves to another changes its `..`.
            _ = linux.fchmod(@intCast(opened), 0o755);
            const name = private_name();
            const gone = linux.renameat(place.artifacts, folder, place.temporary, name);
            _ = system.must(gone, &.{ place.path, "/artifacts/", folder });
            system.remove(place.temporary, name);
        }
        forget_blobs(place, all.contents);
        for ([_]Path{ "blobs", "artifacts", "tmp" }) |name| _ = linux.unlinkat(place.top, name, linux.AT.REMOVEDIR);
        _ = linux.unlinkat(here, system.join(&.{place.path}), linux.AT.REMOVEDIR);
    }
};

const here = system.here;

fn make(path: [:0]const u8) void {
    var why: linux.E = .SUCCESS;
    for (1..path.len + 1) |at| if (at == path.len or path[at] == '/') {
        const result = linux.mkdirat(here, system.join(&.{path[0..at]}), 0o755);
        // What is missing further down is missing for the first reason.
        if (linux.errno(result) != .EXIST and why == .SUCCESS) why = linux.errno(result);
        if (at == path.len and linux.errno(result) != .SUCCESS and linux.errno(result) != .EXIST) refuse(path, why);
    };
}

fn refuse(path: []const u8, why: linux.E) noreturn {
    const hint = "\nIt unpacks itself there, once. BUILDER_RUN_DATA names another folder for that.";
    system.fail(&.{ path, ": ", system.reason(why), hint });
}

fn enter(parent: i32, name: Path, flags: linux.O, path: []const u8) i32 {
    const fd = linux.openat(parent, name, flags, 0);
    if (linux.errno(fd) != .SUCCESS) refuse(path, linux.errno(fd));
    return @intCast(fd);
}

fn below(top: i32, name: Path, path: []const u8) i32 {
    const result = linux.mkdirat(top, name, 0o755);
    if (linux.errno(result) != .SUCCESS and linux.errno(result) != .EXIST) refuse(path, linux.errno(result));
    return enter(top, name, system.directory, path);
}

fn same(fd: i32, path: [:0]const u8) bool {
    var held: system.Stat = undefined;
    var theirs: system.Stat = undefined;
    if (linux.errno(system.stat(fd, "", &held)) != .SUCCESS) return true;
    // The last name may be a symlink to it.
    const again = linux.openat(here, path, .{ .DIRECTORY = true, .CLOEXEC = true }, 0);
    if (linux.errno(again) != .SUCCESS) return false;
    defer system.close(@intCast(again));
    return linux.errno(system.stat(@intCast(again), "", &theirs)) == .SUCCESS and held.ino == theirs.ino and held.dev == theirs.dev;
}

/// Waits for the lock. Gives whether there are locks: where there are none, the last step of an unpacking decides.
fn lock(top: i32) bool {
    const exclusive = 2;
    const at_once = 4;
    var result = linux.flock(top, exclusive | at_once);
    if (linux.errno(result) == .AGAIN) {
        system.progress(&.{"waiting for another start that unpacks"});
        while (true) {
            result = linux.flock(top, exclusive);
            if (linux.errno(result) != .INTR) break;
        }
        system.progress(&.{});
    }
    return linux.errno(result) == .SUCCESS;
}

/// Names in `tmp` that nobody else gives to anything.
const ours = ".builder-run-";

fn private_name() [:0]u8 {
    return system.join(&.{ ours, system.decimal(@intCast(linux.getpid())), "-", system.hex(&random) });
}

/// What tells this process from others with its number: the kernel's, of the auxiliary vector.
pub var random: [8]u8 = @splat(0);

fn sweep(_: void, fd: i32, name: Path) void {
    if (!std.mem.startsWith(u8, std.mem.span(name), ours)) return;
    // To another name first: where locks are each machine's own, its owner may live, and is not to give its tree a name.
    const gone = system.join(&.{ std.mem.span(name), "-" });
    if (linux.errno(linux.renameat(fd, name, fd, gone)) == .SUCCESS) system.remove(fd, gone);
}

fn forget_blobs(place: *const Place, all: []const format.Content) void {
    for (all) |*content| {
        var name: [80]u8 = undefined;
        var found: system.Stat = undefined;
        const blob = blob_name(&name, content);
        if (linux.errno(system.stat(place.blobs, blob, &found)) == .SUCCESS and found.nlink == 1)
            _ = linux.unlinkat(place.blobs, blob, 0);
        name[2] = 0;
        _ = linux.unlinkat(place.blobs, name[0..2 :0], linux.AT.REMOVEDIR);
    }
}

/// `ab/<64 digits>[.x]`, as in a store.
fn blob_name(buffer: *[80]u8, content: *const format.Content) [:0]u8 {
    _ = system.hex_in(buffer[3..], content.digest);
    buffer[0..3].* = .{ buffer[3], buffer[4], '/' };
    buffer[67..70].* = if (content.executable) ".x\x00".* else .{ 0, 0, 0 };
    return buffer[0..if (content.executable) 69 else 67 :0];
}

// -- one unpacking --

const Job = struct {
    all: format.Payload.All,
    /// The private folder that everything is written in, and its name.
    work: i32,
    path: []const u8,
    /// Where blobs are kept, or null: then the files are for somebody who may change them.
    blobs: ?i32,
    have: []bool,
    wanted: []u32,

    fn is_wanted(job: *const Job, frame: *const format.Frame) bool {
        const first = first_in(job.all.contents, frame.start);
        for (job.all.contents[first..], job.have[first..]) |*content, have| {
            if (content.start >= frame.start + frame.size) return false;
            if (!have and content.size > 0) return true;
        }
        return false;
    }
};

/// The folder that an unpacking which fails leaves nothing of.
var unfinished: struct { parent: i32, name: Path } = undefined;

fn clear() void {
    system.remove(unfinished.parent, unfinished.name);
}

/// Unpacks what is not there yet. Gives whether it was not.
pub fn into_place(payload: *const format.Payload, place: *const Place) bool {
    if (place.has(payload.folder)) return false;
    // Known before all is written, and not after it.
    if (system.is_noexec(place.top)) noexec(place.path);
    const folder = system.join(&.{payload.folder});
    const name = private_name();
    var job = begin(payload, place.temporary, name, system.join(&.{ place.path, "/tmp/", name }), place.blobs);
    workers.each(job.all.contents.len, &job, look, &workers.ignore);
    write_contents(&job);
    const linked = tree(&job);
    sync(&job);
    const renamed = linux.renameat(place.temporary, system.join(&.{ name, "/tree" }), place.artifacts, folder);
    // Where there are no locks, another start may have been faster.
    if (linux.errno(renamed) != .EXIST and linux.errno(renamed) != .NOTEMPTY) {
        _ = system.must(renamed, &.{ place.path, "/artifacts/", folder });
        const top = linux.openat(place.artifacts, folder, system.directory, 0);
        if (linux.errno(top) == .SUCCESS) {
            // It has its name, and is whole: what refuses this harms nothing.
            _ = linux.fchmod(@intCast(top), 0o555);
            system.set_time(@intCast(top));
            system.close(@intCast(top));
        }
    }
    end();
    // On a file system without hard links the tree has copies, and blobs are of no use.
    if (!linked) forget_blobs(place, job.all.contents);
    return true;
}

pub fn noexec(path: []const u8) noreturn {
    system.fail(&.{ path, ": programs may not be started from its file system (noexec)\nBUILDER_RUN_DATA names another folder to unpack into." });
}

/// Writes the artifact to a new folder, whose files are nobody else's.
pub fn into_folder(payload: *const format.Payload, path: [:0]const u8) void {
    var found: system.Stat = undefined;
    if (linux.errno(system.stat(here, path, &found)) == .SUCCESS) system.fail(&.{ path, " is there already, and nothing is replaced" });
    const trimmed = std.mem.trimEnd(u8, path, "/");
    const slash = std.mem.lastIndexOfScalar(u8, trimmed, '/');
    const parent = if (slash) |at| system.join(&.{path[0 .. at + 1]}) else system.join(&.{"."});
    const name = system.join(&.{trimmed[if (slash) |at| at + 1 else 0..]});
    const above: i32 = @intCast(system.must(linux.openat(here, parent, .{ .DIRECTORY = true, .CLOEXEC = true }, 0), &.{parent}));
    var job = begin(payload, above, private_name(), path, null);
    write_contents(&job);
    _ = tree(&job);
    sync(&job);
    const no_replace: linux.RENAME = .{ .NOREPLACE = true };
    var renamed = linux.renameat2(job.work, "tree", above, name, no_replace);
    if (linux.errno(renamed) == .INVAL or linux.errno(renamed) == .NOSYS) renamed = linux.renameat(job.work, "tree", above, name);
    _ = system.must(renamed, &.{path});
    end();
}

/// Where a kernel has no such call, a power cut may leave files that are not whole, which a comparison finds.
fn sync(job: *const Job) void {
    const result = linux.syncfs(job.work);
    if (linux.errno(result) != .NOSYS) _ = system.must(result, &.{job.path});
}

fn begin(payload: *const format.Payload, parent: i32, name: Path, path: []const u8, blobs: ?i32) Job {
    const all = payload.all();
    inherited.change();
    const made = linux.mkdirat(parent, name, 0o700);
    if (linux.errno(made) != .SUCCESS) refuse(path, linux.errno(made));
    unfinished = .{ .parent = parent, .name = name };
    workers.clear = &clear;
    const job: Job = .{
        .all = all,
        .work = @intCast(system.must(linux.openat(parent, name, system.directory, 0), &.{path})),
        .path = path,
        .blobs = blobs,
        .have = @as([*]bool, @ptrCast(system.map(all.contents.len + 1, true)))[0..all.contents.len],
        .wanted = system.allocate(u32, all.frames.len),
    };
    title = payload.title;
    return job;
}

fn end() void {
    clear();
    workers.clear = &workers.nothing;
    inherited.restore();
    system.progress(&.{});
}

/// A blob that is there already is used if it is whole.
fn look(job: *Job, number: usize) void {
    const content = &job.all.contents[number];
    var name: [80]u8 = undefined;
    job.have[number] = is_whole(job.blobs.?, blob_name(&name, content), content);
}

fn mode_of(content: *const format.Content) linux.mode_t {
    return if (content.executable) 0o555 else 0o444;
}

/// Whether a file has its content and mode.
fn is_whole(parent: i32, path: Path, content: *const format.Content) bool {
    const opened = linux.openat(parent, path, system.regular, 0);
    if (linux.errno(opened) != .SUCCESS) return false;
    const fd: i32 = @intCast(opened);
    defer system.close(fd);
    var found: system.Stat = undefined;
    if (linux.errno(system.stat(fd, "", &found)) != .SUCCESS or system.kind(&found) != .file) return false;
    return found.mode & 0o7777 == mode_of(content) and found.size == content.size and is(fd, content);
}

fn is(fd: i32, content: *const format.Content) bool {
    const bytes = system.contents(fd, @intCast(content.size), "a blob");
    defer system.forget(bytes);
    return std.mem.eql(u8, &format.digest_of(bytes), content.digest);
}

/// Writes the contents that are not there, each as a file with its number.
fn write_contents(job: *Job) void {
    var count: usize = 0;
    for (job.all.frames, 0..) |*frame, i| if (job.is_wanted(frame)) {
        job.wanted[count] = @intCast(i);
        count += 1;
    };
    steps = count;
    workers.each(count, job, unpack, &show);
    workers.each(job.all.contents.len, job, finish, &workers.ignore);
}

var title: []const u8 = "";
var steps: usize = 0;

fn show(done: usize) void {
    system.progress(&.{ "unpacking ", title, ": ", system.decimal(100 * done / steps), " %" });
}

fn unpack(job: *Job, number: usize) void {
    const frame = &job.all.frames[job.wanted[number]];
    const bytes = frames.decode(frame);
    const behind = frame.start + frame.size;
    const first = first_in(job.all.contents, frame.start);
    for (job.all.contents[first..], job.have[first..], first..) |*content, have, i| {
        if (content.start >= behind) break;
        const from = @max(content.start, frame.start);
        const to = @min(content.start + content.size, behind);
        if (have or from >= to) continue;
        const piece = bytes[@intCast(from - frame.start)..@intCast(to - frame.start)];
        frames.restore(frame.filter, piece, from - frame.start, from - content.start);
        const fd = file(job, i);
        system.write_at(fd, piece, from - content.start, job.path);
        system.close(fd);
    }
}

/// The number of the first content that does not end before a place.
fn first_in(all: []const format.Content, place: u64) usize {
    var low: usize = 0;
    var high = all.len;
    while (low < high) {
        const middle = low + (high - low) / 2;
        if (all[middle].start + all[middle].size <= place) low = middle + 1 else high = middle;
    }
    return low;
}

fn file(job: *const Job, number: usize) i32 {
    var name: [24]u8 = undefined;
    const flags: linux.O = .{ .ACCMODE = .RDWR, .CREAT = true, .NOFOLLOW = true, .CLOEXEC = true };
    return @intCast(system.must(linux.openat(job.work, system.decimal_in(&name, number), flags, 0o600), &.{job.path}));
}

/// A file that was written is read again: what the disk has is what counts.
fn finish(job: *Job, number: usize) void {
    if (job.have[number]) return;
    const content = &job.all.contents[number];
    const fd = file(job, number);
    defer system.close(fd);
    if (!is(fd, content)) system.fail(&.{ job.path, ": something else was written than was to be. Is the disk in order?" });
    // What somebody may change can be written by its owner.
    seal(fd, mode_of(content) | @as(linux.mode_t, if (job.blobs == null) 0o200 else 0));
    const blobs = job.blobs orelse return;
    var name: [80]u8 = undefined;
    var own: [24]u8 = undefined;
    const blob = blob_name(&name, content);
    _ = linux.mkdirat(blobs, system.join(&.{blob[0..2]}), 0o755);
    _ = system.must(linux.renameat(job.work, system.decimal_in(&own, number), blobs, blob), &.{job.path});
}

fn seal(fd: i32, mode: linux.mode_t) void {
    _ = system.must(linux.fchmod(fd, mode), &.{"the mode of a file"});
    system.set_time(fd);
}

/// Makes the tree of the contents. Gives whether all files are hard links.
fn tree(job: *Job) bool {
    const made = below_work(job);
    var linked = true;
    for (job.all.entries) |*entry| {
        var buffer: [4096]u8 = undefined;
        const path = system.joined(&buffer, &.{entry.path});
        switch (entry.what) {
            .directory => _ = system.must(linux.mkdirat(made, path, 0o755), &.{ job.path, "/", path }),
            .symlink => |target| {
                var other: [4096]u8 = undefined;
                _ = system.must(linux.symlinkat(system.joined(&other, &.{target}), made, path), &.{ job.path, "/", path });
            },
            .file => |number| linked = place_file(job, made, path, number) and linked,
        }
    }
    // Last, for nothing can be made in a directory that is sealed; the innermost first.
    const mode: linux.mode_t = if (job.blobs == null) 0o755 else 0o555;
    var at = job.all.entries.len;
    while (at > 0) {
        at -= 1;
        if (job.all.entries[at].what != .directory) continue;
        var buffer: [4096]u8 = undefined;
        const opened = linux.openat(made, system.joined(&buffer, &.{job.all.entries[at].path}), system.directory, 0);
        const fd: i32 = @intCast(system.must(opened, &.{ job.path, "/", job.all.entries[at].path }));
        seal(fd, mode);
        system.close(fd);
    }
    system.set_time(made);
    system.close(made);
    return linked;
}

fn below_work(job: *const Job) i32 {
    _ = system.must(linux.mkdirat(job.work, "tree", 0o755), &.{job.path});
    return @intCast(system.must(linux.openat(job.work, "tree", system.directory, 0), &.{job.path}));
}

/// A link to the blob, or the file itself if nobody else needs it, or else a copy.
fn place_file(job: *Job, made: i32, path: Path, number: u32) bool {
    var name: [80]u8 = undefined;
    const content = &job.all.contents[number];
    const from = job.blobs orelse job.work;
    const source: Path = if (job.blobs != null) blob_name(&name, content) else system.decimal_in(name[0..24], number);
    if (job.blobs != null) {
        var result = linux.linkat(from, source, made, path, 0);
        // Where there are no locks, somebody may have put another file in the blob's place just then.
        for (0..100) |_| {
            if (linux.errno(result) != .NOENT) break;
            result = linux.linkat(from, source, made, path, 0);
        }
        switch (linux.errno(result)) {
            .SUCCESS => return true,
            // No links there, or none more to this file.
            .PERM, .ACCES, .INVAL, .OPNOTSUPP, .MLINK, .XDEV, .NOSYS => {},
            else => |why| system.fail(&.{ job.path, "/", std.mem.span(path), ": ", system.reason(why) }),
        }
    } else {
        content.uses -= 1;
        if (content.uses == 0) {
            _ = system.must(linux.renameat(from, source, made, path), &.{job.path});
            return false;
        }
    }
    const flags: linux.O = .{ .ACCMODE = .RDWR, .CREAT = true, .EXCL = true, .NOFOLLOW = true, .CLOEXEC = true };
    const fd: i32 = @intCast(system.must(linux.openat(made, path, flags, 0o600), &.{job.path}));
    defer system.close(fd);
    const original: i32 = @intCast(system.must(linux.openat(from, source, system.regular, 0), &.{job.path}));
    defer system.close(original);
    const bytes = system.contents(original, @intCast(content.size), job.path);
    defer system.forget(bytes);
    system.write_at(fd, bytes, 0, job.path);
    var found: system.Stat = undefined;
    _ = system.must(system.stat(original, "", &found), &.{job.path});
    seal(fd, @intCast(found.mode & 0o777));
    return false;
}

// -- comparing --

const Comparison = struct { all: format.Payload.All, top: i32, bad: *u32 };

/// Compares the file with its digests, and the tree at `path` if there is one: gives whether there is. Ends with `damaged` if
/// something differs.
pub fn verify(payload: *const format.Payload, path: [:0]const u8) bool {
    const all = payload.all();
    workers.each(all.frames.len, all.frames, verify_frame, &workers.ignore);
    const opened = linux.openat(here, path, system.directory, 0);
    if (linux.errno(opened) != .SUCCESS) return false;
    const comparison: Comparison = .{ .all = all, .top = @intCast(opened), .bad = @ptrCast(system.map(4, true)) };
    workers.each(all.entries.len, &comparison, compare, &workers.ignore);
    if (comparison.bad.* > 0) system.stop(system.damaged, &.{
        path,                                                          ": ",
        system.decimal(comparison.bad.*),                              " damaged\n",
        "To unpack it anew: --builder-uninstall, and start it again.",
    });
    return true;
}

fn verify_frame(all: []const format.Frame, number: usize) void {
    frames.verify(&all[number]);
}

fn compare(comparison: *const Comparison, number: usize) void {
    const entry = &comparison.all.entries[number];
    var buffer: [4096]u8 = undefined;
    const path = system.joined(&buffer, &.{entry.path});
    if (is_as(comparison, entry, path)) return;
    system.say(&.{ path, ": damaged\n" });
    _ = @atomicRmw(u32, comparison.bad, .Add, 1, .seq_cst);
}

fn is_as(comparison: *const Comparison, entry: *const format.Entry, path: Path) bool {
    var found: system.Stat = undefined;
    if (linux.errno(system.stat(comparison.top, path, &found)) != .SUCCESS) return false;
    switch (entry.what) {
        .directory => return system.kind(&found) == .directory,
        .symlink => |target| {
            var text: [4096]u8 = undefined;
            const size = linux.readlinkat(comparison.top, path, &text, text.len);
            return linux.errno(size) == .SUCCESS and std.mem.eql(u8, text[0..size], target);
        },
        .file => |number| return is_whole(comparison.top, path, &comparison.all.contents[number]),
    }
}
