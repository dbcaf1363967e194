//! What stands behind the program in the file (docs/run-format.md): a record that says what is started, one that says what is
//! in the file, and frames with the contents of the artifact's files. The kernel has mapped it.

const std = @import("std");
const system = @import("system.zig");
const Blake3 = std.crypto.hash.Blake3;

pub const magic = "builder run 1\n\x00\x00";
const pair = 8 + Blake3.digest_length;
const start_of_records = magic.len + 2 * pair;

pub const Digest = [Blake3.digest_length]u8;

pub const Program = struct { name: []const u8, path: []const u8 };

pub const Filter = enum(u8) { none = 0, x86 = 1, arm64 = 2, _ };

/// `size` bytes of the files' contents, compressed; `filter` says how branches were made more alike before that.
pub const Frame = struct { packed_bytes: []const u8, size: usize, digest: *const Digest, filter: Filter, start: u64 };

pub const Entry = struct {
    path: []const u8,
    what: union(enum) {
        directory,
        /// A number of `contents`.
        file: u32,
        symlink: []const u8,
    },
};

/// The contents of one or several files, at a place among all contents.
pub const Content = struct { digest: *const Digest, start: u64, size: u64, executable: bool, uses: u32 };

pub const Payload = struct {
    bytes: []const u8,
    name: []const u8,
    folder: []const u8,
    title: []const u8,
    artifact: *const Digest,
    programs: []const Program,
    main: ?usize,
    contents_at: usize,

    /// What has to be known to start a program that is there: a small record, compared with its digest.
    pub fn open(bytes: []const u8) Payload {
        const first = recorded(bytes, magic.len, start_of_records);
        var reader: Reader = .{ .bytes = first };
        reader.opening("run", 8);
        const folder = reader.text();
        const name = reader.text();
        var payload: Payload = .{
            .bytes = bytes,
            .name = name,
            .folder = folder,
            .title = system.join(&.{ name, " ", reader.text() }),
            .artifact = reader.digest(),
            .programs = undefined,
            .main = undefined,
            .contents_at = start_of_records + first.len,
        };
        if (!is_path(folder) or std.mem.indexOfScalar(u8, folder, '/') != null) broken();
        const programs = system.allocate(Program, reader.array());
        for (programs) |*program| {
            reader.row(2);
            program.* = .{ .name = reader.text(), .path = reader.text() };
            if (!is_path(program.path) or !is_path(program.name) or std.mem.indexOfScalar(u8, program.name, '/') != null) broken();
        }
        payload.programs = programs;
        payload.main = reader.optional();
        if (payload.main) |main| if (main >= programs.len) broken();
        return payload;
    }

    pub const All = struct { frames: []const Frame, entries: []const Entry, contents: []Content, size: u64 };

    /// All that is in the file.
    pub fn all(payload: *const Payload) All {
        const record = recorded(payload.bytes, magic.len + pair, payload.contents_at);
        var reader: Reader = .{ .bytes = record };
        reader.opening("contents", 5);

        const frames = system.allocate(Frame, reader.array());
        var at = payload.contents_at + record.len;
        var size: u64 = 0;
        for (frames) |*frame| {
            reader.row(4);
            const length = reader.number();
            if (length > payload.bytes.len - at) broken();
            frame.* = .{
                .packed_bytes = payload.bytes[at..][0..@intCast(length)],
                .size = std.math.cast(u32, reader.number()) orelse broken(),
                .filter = @fromBackingInt(std.math.cast(u8, reader.number()) orelse broken()),
                .digest = reader.digest(),
                .start = size,
            };
            at += frame.packed_bytes.len;
            size += frame.size;
        }

        // Where each content is: the numbers of the entries that have it first, in the order in which they stand.
        const order = reader.array();
        var numbers = reader;
        for (0..order) |_| _ = reader.number();

        const manifest = reader.text();
        if (!std.mem.eql(u8, &digest_of(manifest), payload.artifact)) broken();
        var rows: Reader = .{ .bytes = manifest };
        rows.opening("manifest", 3);
        const entries = system.allocate(Entry, rows.array());
        const found = system.allocate(Content, entries.len);
        for (entries, found) |*entry, *content| {
            const fields = rows.array();
            entry.path = rows.text();
            if (!is_path(entry.path)) broken();
            switch (rows.number() + 10 * @as(u64, fields)) {
                20 => entry.what = .directory,
                32 => {
                    entry.what = .{ .symlink = rows.text() };
                    if (entry.what.symlink.len > longest) broken();
                },
                51 => {
                    entry.what = .{ .file = 0 };
                    content.* = .{ .digest = rows.digest(), .size = rows.number(), .executable = rows.boolean(), .start = 0, .uses = 0 };
                },
                else => broken(),
            }
        }

        const contents = system.allocate(Content, order);
        var start: u64 = 0;
        for (contents) |*content| {
            const number = numbers.number();
            if (number >= entries.len or entries[@intCast(number)].what != .file) broken();
            content.* = found[@intCast(number)];
            content.start = start;
            start = std.math.add(u64, start, content.size) catch broken();
        }
        if (start != size) broken();
        link(entries, found, contents);
        return .{ .frames = frames, .entries = entries, .contents = contents, .size = size };
    }
};

const longest = 4095;

/// A relative path without empty parts, `.` and `..`.
fn is_path(path: []const u8) bool {
    var parts = std.mem.splitScalar(u8, path, '/');
    while (parts.next()) |part| {
        if (part.len == 0 or part.len > 255 or std.mem.eql(u8, part, ".") or std.mem.eql(u8, part, "..")) return false;
    }
    return path.len <= longest and std.mem.indexOfScalar(u8, path, 0) == null;
}

/// The record whose size and digest stand at `header`.
fn recorded(bytes: []const u8, header: usize, place: usize) []const u8 {
    if (bytes.len < place) broken();
    const size = std.mem.readInt(u64, bytes[header..][0..8], .little);
    if (size > bytes.len - place) broken();
    const record = bytes[place..][0..@intCast(size)];
    if (!std.mem.eql(u8, &digest_of(record), bytes[header + 8 ..][0..Blake3.digest_length])) broken();
    return record;
}

/// Gives each file the number of its content.
fn link(entries: []Entry, found: []const Content, contents: []Content) void {
    const sorted = system.allocate(u32, contents.len);
    for (sorted, 0..) |*number, i| number.* = @intCast(i);
    std.sort.heap(u32, sorted, @as([]const Content, contents), struct {
        fn less(all: []const Content, a: u32, b: u32) bool {
            return compare(&all[a], &all[b]) == .lt;
        }
    }.less);
    for (entries, found) |*entry, *content| if (entry.what == .file) {
        const at = std.sort.binarySearch(u32, sorted, Search{ .wanted = content, .contents = contents }, Search.order) orelse broken();
        entry.what = .{ .file = sorted[at] };
        contents[sorted[at]].uses += 1;
    };
}

const Search = struct {
    wanted: *const Content,
    contents: []const Content,

    fn order(search: Search, number: u32) std.math.Order {
        return compare(search.wanted, &search.contents[number]);
    }
};

fn compare(a: *const Content, b: *const Content) std.math.Order {
    const by_digest = std.mem.order(u8, a.digest, b.digest);
    if (by_digest != .eq) return by_digest;
    return std.math.order(@intFromBool(a.executable), @intFromBool(b.executable));
}

pub fn digest_of(bytes: []const u8) Digest {
    var digest: Digest = undefined;
    Blake3.hash(bytes, &digest, .{});
    return digest;
}

pub fn broken() noreturn {
    system.stop(system.damaged, &.{"this file is damaged: fetch it again"});
}

/// A reader of what is used of msgpack.
pub const Reader = struct {
    bytes: []const u8,
    at: usize = 0,

    fn take(reader: *Reader, count: u64) []const u8 {
        if (count > reader.bytes.len - reader.at) broken();
        defer reader.at += @intCast(count);
        return reader.bytes[reader.at..][0..@intCast(count)];
    }

    fn big(reader: *Reader, comptime T: type) u64 {
        return std.mem.readInt(T, reader.take(@sizeOf(T))[0..@sizeOf(T)], .big);
    }

    fn byte(reader: *Reader) u8 {
        return reader.take(1)[0];
    }

    /// How many items there are. Each has a byte at least: so no number is larger than what is left.
    pub fn array(reader: *Reader) u32 {
        const first = reader.byte();
        const count = switch (first) {
            0x90...0x9f => first & 15,
            0xdc => reader.big(u16),
            0xdd => reader.big(u32),
            else => broken(),
        };
        if (count > reader.bytes.len - reader.at) broken();
        return @intCast(count);
    }

    pub fn row(reader: *Reader, count: u32) void {
        if (reader.array() != count) broken();
    }

    /// A record's beginning: the format, and its word.
    pub fn opening(reader: *Reader, word: []const u8, count: u32) void {
        reader.row(count);
        if (reader.number() != 1 or !std.mem.eql(u8, reader.text(), word)) broken();
    }

    /// A text or byte string.
    pub fn text(reader: *Reader) []const u8 {
        const first = reader.byte();
        return reader.take(switch (first) {
            0xa0...0xbf => first & 31,
            0xc4, 0xd9 => reader.byte(),
            0xc5, 0xda => reader.big(u16),
            0xc6, 0xdb => reader.big(u32),
            else => broken(),
        });
    }

    pub fn digest(reader: *Reader) *const Digest {
        const found = reader.text();
        if (found.len != Blake3.digest_length) broken();
        return found[0..Blake3.digest_length];
    }

    pub fn number(reader: *Reader) u64 {
        const first = reader.byte();
        return switch (first) {
            0...0x7f => first,
            0xcc => reader.byte(),
            0xcd => reader.big(u16),
            0xce => reader.big(u32),
            0xcf => reader.big(u64),
            else => broken(),
        };
    }

    pub fn optional(reader: *Reader) ?usize {
        if (reader.at < reader.bytes.len and reader.bytes[reader.at] == 0xc0) {
            reader.at += 1;
            return null;
        }
        return std.math.cast(usize, reader.number()) orelse broken();
    }

    pub fn boolean(reader: *Reader) bool {
        return switch (reader.byte()) {
            0xc2 => false,
            0xc3 => true,
            else => broken(),
        };
    }
};
