//! Networks: an address and how many of its bits count.
//! Opens and resolves nothing.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// `10.0.0.0/8`, `::1/128`, or one address. Bits beyond the prefix are zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Network {
    address: IpAddr,
    prefix: u8,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no network: write an address, or an address and its prefix length, such as 10.1.0.0/16 or fd00::/8"
)]
pub struct NotANetwork(String);

const fn bits(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

fn masked(address: IpAddr, prefix: u8) -> IpAddr {
    match address {
        IpAddr::V4(a) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
            IpAddr::V4((a.to_bits() & mask).into())
        }
        IpAddr::V6(a) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0);
            IpAddr::V6((a.to_bits() & mask).into())
        }
    }
}

impl Network {
    /// `None` when the prefix is longer than the address. An IPv4 address in the clothes of IPv6 becomes IPv4.
    pub fn new(address: IpAddr, prefix: u8) -> Option<Network> {
        if prefix > bits(address) {
            return None;
        }
        if let IpAddr::V6(six) = address
            && let Some(four) = six.to_ipv4_mapped()
        {
            let prefix = prefix.checked_sub(96)?;
            return Network::new(IpAddr::V4(four), prefix);
        }
        Some(Network {
            address: masked(address, prefix),
            prefix,
        })
    }

    /// This address alone.
    pub fn host(address: IpAddr) -> Network {
        let address = address.to_canonical();
        Network {
            address,
            prefix: bits(address),
        }
    }

    pub const fn address(&self) -> IpAddr {
        self.address
    }

    /// Bits that count: 0 to 32, or to 128.
    pub const fn prefix(&self) -> u8 {
        self.prefix
    }

    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        address.is_ipv4() == self.address.is_ipv4() && masked(address, self.prefix) == self.address
    }
}

impl FromStr for Network {
    type Err = NotANetwork;

    fn from_str(text: &str) -> Result<Network, NotANetwork> {
        let bad = || NotANetwork(text.to_owned());
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| bad())?;
        match prefix {
            Some(prefix) => {
                let prefix = prefix.parse().map_err(|_| bad())?;
                Network::new(address, prefix).ok_or_else(bad)
            }
            None => Ok(Network::host(address)),
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(text: &str) -> Network {
        text.parse().expect(text)
    }

    #[test]
    fn bits_beyond_the_prefix_do_not_count() {
        assert_eq!(network("10.1.2.3/8"), network("10.0.0.0/8"));
        assert_eq!(network("fd00::1/8").to_string(), "fd00::/8");
        assert_eq!(network("0.0.0.0/0").to_string(), "0.0.0.0/0");
        assert_eq!(network("10.1.2.3").to_string(), "10.1.2.3/32");
    }

    #[test]
    fn contains_what_it_says() {
        let ten = network("10.0.0.0/8");
        for (address, inside) in [
            ("10.255.0.1", true),
            ("11.0.0.0", false),
            ("::ffff:10.0.0.1", true),
            ("::10.0.0.1", false),
        ] {
            assert_eq!(ten.contains(address.parse().unwrap()), inside, "{address}");
        }
        assert!(network("::/0").contains("2001:db8::1".parse().unwrap()));
        assert!(!network("::/0").contains("10.0.0.1".parse().unwrap()));
        assert_eq!(network("::ffff:10.0.0.0/104"), ten);
    }

    #[test]
    fn what_is_no_network_is_refused() {
        for text in [
            "",
            "10.0.0.0/33",
            "::/129",
            "10.0.0/8",
            "a/8",
            "10.0.0.0/",
            "10.0.0.0/-1",
            "::ffff:0:0/90",
        ] {
            assert!(text.parse::<Network>().is_err(), "{text}");
        }
    }
}
