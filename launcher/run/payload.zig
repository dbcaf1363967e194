//! What stands behind the program in the file (docs/run-format.md): a record that says what is in it, and frames with
//! the contents of the artifact's files. The kernel has mapped it.

const std = @import("std");
const system = @import("system.zig");
const Blake3 = std.crypto.hash.Blake3;

pub const magic = "builder run 1\n\x00\x00";
const start_of_record = magic.len + 8 + Blake3.digest_length;

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
    record: []const u8,
    folder: []const u8,
    title: []const u8,
    artifact: *const Digest,
    programs: []const Program,
    main: ?usize,
    rest: Reader,

    /// What has to be known to start a program that is there. Nothing is compared with its digest: a file that is not there
    /// is looked for in vain, and then all is.
    pub fn open(bytes: []const u8) Payload {
        if (bytes.len < start_of_record) broken();
        const size = std.mem.readInt(u64, bytes[magic.len..][0..8], .little);
        if (size > bytes.len - start_of_record) broken();
        const record = bytes[start_of_record..][0..@intCast(size)];
        var reader: Reader = .{ .bytes = record };
        reader.opening("run", 11);
        var payload: Payload = .{
            .bytes = bytes,
            .record = record,
            .folder = reader.text(),
            .title = system.join(&.{ reader.text(), " ", reader.text() }),
            .artifact = reader.digest(),
            .programs = undefined,
            .main = undefined,
            .rest = undefined,
        };
        const programs = system.allocate(Program, reader.array());
        for (programs) |*program| {
            reader.row(2);
            program.* = .{ .name = reader.text(), .path = reader.text() };
        }
        payload.programs = programs;
        payload.main = reader.optional();
        if (payload.main) |main| if (main >= programs.len) broken();
        payload.rest = reader;
        return payload;
    }

    pub const All = struct { frames: []const Frame, entries: []const Entry, contents: []Content, size: u64 };

    /// The rest, after a comparison of the record with its digest.
    pub fn all(payload: *const Payload) All {
        if (!std.mem.eql(u8, &digest_of(payload.record), payload.bytes[magic.len + 8 ..][0..Blake3.digest_length])) broken();
        var reader = payload.rest;

        const frames = system.allocate(Frame, reader.array());
        var at = start_of_record + payload.record.len;
        var size: u64 = 0;
        for (frames) |*frame| {
            reader.row(4);
            const length = reader.number();
            if (length > payload.bytes.len - at) broken();
            frame.* = .{
                .packed_bytes = payload.bytes[at..][0..@intCast(length)],
                .size = @intCast(reader.number()),
                .filter = @fromBackingInt(@intCast(reader.number())),
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
            switch (rows.number() + 10 * @as(u64, fields)) {
                20 => entry.what = .directory,
                32 => entry.what = .{ .symlink = rows.text() },
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
            start += content.size;
        }
        if (start != size) broken();
        link(entries, found, contents);
        return .{ .frames = frames, .entries = entries, .contents = contents, .size = size };
    }
};

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
