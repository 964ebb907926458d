/// A hash that is the same in every process, on every machine and in every release: 64-bit FNV-1a, mixed at the end so that
/// all bits depend on all of the input. Not for keeping secrets or resisting collisions.
pub(crate) fn stable_hash<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> u64 {
    let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    // 0xff is no part of any UTF-8 text, so the parts cannot be cut in two ways.
    let whole =
        parts.into_iter().fold(0xcbf2_9ce4_8422_2325, |hash, part| step(part.iter().copied().fold(hash, step), 0xff));
    let mixed = (whole ^ (whole >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
    let mixed = (mixed ^ (mixed >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
    mixed ^ (mixed >> 32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn never_changes() {
        assert_eq!(stable_hash([]), 0x2180_a923_50d4_9cce);
        assert_eq!(stable_hash([&b"contoso"[..], b"gpt-4o"]), 0x3bf5_dc1e_7cea_32dd);
        assert_ne!(stable_hash([&b"ab"[..], b"c"]), stable_hash([&b"a"[..], b"bc"]));
    }
}
