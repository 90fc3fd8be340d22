//! Money: whole minor units, no floating point anywhere.

use std::fmt;
use std::str::FromStr;

/// The largest amount of one operation, in minor units.
pub const AMOUNT_MAX: i64 = 1_000_000_000_000;
/// The largest balance of a customer's account, in minor units.
pub const BALANCE_MAX: i64 = 1_000_000_000_000_000;

/// An amount of money that may move: 1 to 10^12 minor units.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Amount(i64);

impl Amount {
    /// The amount, if it is one that may move.
    #[must_use]
    pub fn new(minor: i64) -> Option<Self> {
        (1..=AMOUNT_MAX).contains(&minor).then_some(Self(minor))
    }

    /// Minor units, 1 to 10^12.
    #[must_use]
    pub const fn minor(self) -> i64 {
        self.0
    }
}

/// A balance to open an account with: 1 to 10^15 minor units. It may be more than one entry can
/// move, and is then posted in parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Opening(i64);

impl Opening {
    /// The opening balance, if there is anything to post.
    #[must_use]
    pub fn new(minor: i64) -> Option<Self> {
        (1..=BALANCE_MAX).contains(&minor).then_some(Self(minor))
    }

    /// The amounts of its entries, which sum to it.
    pub fn parts(self) -> impl Iterator<Item = Amount> {
        let mut rest = self.0;
        std::iter::from_fn(move || {
            let part = Amount::new(rest.min(AMOUNT_MAX))?;
            rest = rest.saturating_sub(part.minor());
            Some(part)
        })
    }
}

/// An amount as a client asked for it: any integer of 64 bits. Whether it may move is judged in
/// the order that the protocol gives to refusals, not while reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RequestedAmount(pub i64);

impl RequestedAmount {
    /// The amount, if it is one that may move.
    #[must_use]
    pub fn amount(self) -> Option<Amount> {
        Amount::new(self.0)
    }
}

/// A currency of ISO 4217 with its number of decimals.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Currency {
    code: [u8; 3],
    decimals: u8,
}

/// The text is not a currency of ISO 4217 that has minor units.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a currency code of ISO 4217, such as USD, EUR or JPY")]
pub struct UnknownCurrency;

/// Active codes of ISO 4217 with two decimals; those with others are in [`OTHER_DECIMALS`].
const TWO_DECIMALS: &str = "AED AFN ALL AMD AOA ARS AUD AWG AZN BAM BBD BDT BGN BMD BND BOB BOV \
    BRL BSD BTN BWP BYN BZD CAD CDF CHE CHF CHW CNY COP COU CRC CUP CVE CZK DKK DOP DZD EGP ERN \
    ETB EUR FJD FKP GBP GEL GHS GIP GMD GTQ GYD HKD HNL HTG HUF IDR ILS INR IRR JMD KES KGS KHR \
    KPW KYD KZT LAK LBP LKR LRD LSL MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MXV MYR MZN \
    NAD NGN NIO NOK NPR NZD PAB PEN PGK PHP PKR PLN QAR RON RSD RUB SAR SBD SCR SDG SEK SGD SHP \
    SLE SOS SRD SSP STN SVC SYP SZL THB TJS TMT TOP TRY TTD TWD TZS UAH USD USN UYU UZS VED VES \
    WST XAD XCD XCG YER ZAR ZMW ZWG";
const OTHER_DECIMALS: [(u8, &str); 3] = [
    (
        0,
        "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF",
    ),
    (3, "BHD IQD JOD KWD LYD OMR TND"),
    (4, "CLF UYW"),
];

impl Currency {
    /// The three letters of the code.
    #[must_use]
    pub fn code(&self) -> &str {
        std::str::from_utf8(&self.code).unwrap_or_default()
    }

    /// Digits behind the point.
    #[must_use]
    pub fn decimals(&self) -> u8 {
        self.decimals
    }

    fn minor_per_major(&self) -> i64 {
        10_i64.saturating_pow(u32::from(self.decimals))
    }

    /// Minor units as people read them: `-1234.05`, or `1234` where the currency has no decimals.
    #[must_use]
    pub fn format(&self, minor: i64) -> String {
        let magnitude = minor.unsigned_abs();
        let unit = self.minor_per_major().unsigned_abs().max(1);
        let sign = if minor < 0 { "-" } else { "" };
        let (major, rest) = (magnitude.div_euclid(unit), magnitude.rem_euclid(unit));
        match usize::from(self.decimals) {
            0 => format!("{sign}{major}"),
            width => format!("{sign}{major}.{rest:0width$}"),
        }
    }

    /// Reads digits, or digits, a point and exactly the currency's decimals; no sign, no
    /// grouping. `None` where the text is anything else or does not fit.
    #[must_use]
    pub fn parse_exact(&self, text: &str) -> Option<i64> {
        let (major, rest) = match text.split_once('.') {
            Some((major, rest)) => (major, Some(rest)),
            None => (text, None),
        };
        let all_digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        if !all_digits(major) {
            return None;
        }
        let rest = match rest {
            None => 0,
            Some(rest) if all_digits(rest) && rest.len() == usize::from(self.decimals) => {
                rest.parse::<i64>().ok()?
            }
            Some(_) => return None,
        };
        major
            .parse::<i64>()
            .ok()?
            .checked_mul(self.minor_per_major())?
            .checked_add(rest)
    }
}

impl FromStr for Currency {
    type Err = UnknownCurrency;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let code: [u8; 3] = text.as_bytes().try_into().map_err(|_| UnknownCurrency)?;
        let listed = |codes: &str| codes.split_ascii_whitespace().any(|known| known == text);
        if listed(TWO_DECIMALS) {
            return Ok(Self { code, decimals: 2 });
        }
        OTHER_DECIMALS
            .iter()
            .find(|(_, codes)| listed(codes))
            .map(|&(decimals, _)| Self { code, decimals })
            .ok_or(UnknownCurrency)
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

impl fmt::Debug for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn currency(code: &str) -> Currency {
        code.parse().unwrap()
    }

    #[test]
    fn amounts_are_1_to_a_million_million() {
        assert_eq!(Amount::new(0), None);
        assert_eq!(Amount::new(-1), None);
        assert_eq!(Amount::new(AMOUNT_MAX + 1), None);
        assert_eq!(Amount::new(AMOUNT_MAX).map(Amount::minor), Some(AMOUNT_MAX));
    }

    #[test]
    fn an_opening_balance_is_posted_in_parts_that_sum_to_it() {
        for balance in [1, AMOUNT_MAX, AMOUNT_MAX + 1, BALANCE_MAX] {
            let sum: i64 = Opening::new(balance)
                .unwrap()
                .parts()
                .map(Amount::minor)
                .sum();
            assert_eq!(sum, balance);
        }
        assert_eq!(Opening::new(0), None);
        assert_eq!(Opening::new(BALANCE_MAX + 1), None);
    }

    #[test]
    fn each_currency_has_the_decimals_of_iso_4217() {
        for (code, decimals) in [("USD", 2), ("EUR", 2), ("JPY", 0), ("KWD", 3), ("CLF", 4)] {
            assert_eq!(currency(code).decimals(), decimals, "{code}");
        }
        for code in ["usd", "XXX", "US", "USDX", "US ", ""] {
            assert_eq!(code.parse::<Currency>(), Err(UnknownCurrency), "{code:?}");
        }
    }

    #[test]
    fn money_text_is_exact_or_refused() {
        let usd = currency("USD");
        assert_eq!(usd.parse_exact("1024.32"), Some(102_432));
        assert_eq!(usd.parse_exact("7"), Some(700));
        for text in [
            "", ".", "1.", ".50", "1.5", "1.555", "-1.00", "+1", "1,000.00", "1e3", "١.٠٠",
        ] {
            assert_eq!(usd.parse_exact(text), None, "{text:?}");
        }
        assert_eq!(usd.parse_exact("99999999999999999999"), None);
        assert_eq!(currency("JPY").parse_exact("12"), Some(12));
        assert_eq!(currency("JPY").parse_exact("12.0"), None);
    }

    proptest! {
        #[test]
        fn what_is_shown_reads_back_as_the_same_money(minor in 0..=BALANCE_MAX, code in "(USD|JPY|KWD|CLF)") {
            let currency = currency(&code);
            prop_assert_eq!(currency.parse_exact(&currency.format(minor)), Some(minor));
            prop_assert_eq!(currency.format(-minor), if minor == 0 { currency.format(0) } else { format!("-{}", currency.format(minor)) });
        }
    }
}
