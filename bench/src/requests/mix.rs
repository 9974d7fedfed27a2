//! The requests: what browsers and services send to the demo's shop, in fixed proportions.

use crate::statistics::Random;

/// Requests of the mix; they are sent one after the other, over and over.
const MIXED: usize = 200;

/// The mix, each request as the bytes that are sent.
pub(crate) fn all() -> Vec<Vec<u8>> {
    let mut random = Random(7);
    (0..MIXED)
        .map(|number| one(&mut random, number, ""))
        .collect()
}

/// So many requests of the same kinds, drawn anew, that ask the upstream to tell what it got.
pub(crate) fn drawn(count: usize) -> Vec<Vec<u8>> {
    let mut random = Random(11);
    (0..count)
        .map(|_| {
            let number = random.below(MIXED);
            one(&mut random, number, "x-bench-echo: 1\r\n")
        })
        .collect()
}

/// Half of the requests leave the choice to the rollout, the others ask for a version or carry a
/// color in one of the ways there are; one of twenty belongs to no service.
fn one(random: &mut Random, number: usize, more: &str) -> Vec<u8> {
    let item = random.below(10_000);
    let user = random.below(1_000_000);
    let known = format!("x-user-id: user-{user}\r\n");
    let major = 1 + item % 2;
    let shop = format!("/shop/items/{item}");
    let (path, cookie, own) = match number % 20 {
        0..=7 => (shop, String::new(), known),
        8 | 9 => (
            shop,
            format!(
                "; ombre_uid={:032x}",
                user as u128 * 0x9e37_79b9_7f4a_7c15_f39c
            ),
            String::new(),
        ),
        10 => (
            shop,
            String::new(),
            format!("{known}accept: application/vnd.shop.v{major}+json\r\n"),
        ),
        11 => (
            shop,
            String::new(),
            format!(
                "{known}accept: application/vnd.api+v1;q=0.5, application/vnd.api+v2;q=0.{}, */*;q=0.1\r\n",
                1 + item % 9
            ),
        ),
        12..=14 => (
            format!("/api/v{major}/items/{item}?page=2"),
            String::new(),
            known,
        ),
        15 => (
            shop,
            String::new(),
            format!("{known}x-api-version: {major}\r\n"),
        ),
        16 => (
            shop,
            String::new(),
            format!("{known}x-envoy-traffic-color: canary-v2\r\n"),
        ),
        17 => (shop, "; traffic_color=canary-v2".to_owned(), known),
        18 => (
            format!("{shop}?page=2&version={major}"),
            String::new(),
            known,
        ),
        _ => (format!("/health/{item}"), String::new(), known),
    };
    let accept = if own.contains("accept: ") {
        ""
    } else {
        "accept: text/html,application/xhtml+xml,*/*;q=0.8\r\n"
    };
    format!(
        "GET {path} HTTP/1.1\r\nhost: shop.example.com\r\n\
         user-agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0\r\n{accept}\
         accept-language: en-US,en;q=0.5\r\naccept-encoding: gzip, deflate, br\r\n\
         referer: https://shop.example.com/shop/\r\n\
         cookie: session=8f14e45fceea167a5a36dedd4bea2543; theme=dark{cookie}\r\n\
         x-request-id: 3f2504e0-4f89-41d3-9a0c-0305e82c{:04x}\r\n{own}{more}\r\n",
        item
    )
    .into_bytes()
}
