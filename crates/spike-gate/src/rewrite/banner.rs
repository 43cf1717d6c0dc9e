//! The invitation at the foot of a page while the crowd carries the site.
//!
//! A `<dialog open>` whose form has `method="dialog"`: the browser closes it without any script,
//! it takes no focus, and assistive technology announces it by its label.

/// The markup, with `link` (already a safe URL) as the page that says how to help.
pub fn html(link: &str) -> String {
    let link = link
        .replace('&', "&amp;")
        .replace('"', "&quot;")
        .replace('<', "&lt;");
    format!(
        "<dialog open lang=\"en\" dir=\"ltr\" aria-label=\"This site is busy\" data-spikeswarm=\"banner\" data-spikeswarm-banner \
         style=\"all:revert;position:fixed;inset:auto 1rem 1rem auto;margin:0;max-width:22rem;\
         padding:.75rem 1rem;box-sizing:border-box;border:1px solid #486581;border-radius:.5rem;\
         background:#fff;color:#102a43;font:0.9rem/1.4 system-ui,sans-serif;\
         box-shadow:0 2px 12px rgba(0,0,0,.25);z-index:2147483000\">\
         <p style=\"margin:0 0 .5rem\">Many people are here at once, and visitors are carrying \
         part of this page for each other.</p>\
         <form method=\"dialog\" style=\"margin:0;display:flex;gap:.75rem;align-items:center\">\
         <a href=\"{link}\" style=\"color:#0b5394\">Lend a hand</a>\
         <button style=\"margin-left:auto;padding:.25rem .75rem;font:inherit;cursor:pointer\">\
         Close</button></form></dialog>"
    )
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_link_cannot_leave_its_attribute() {
        let html = super::html("http://x/?a&b\"><script>alert(1)</script>");
        assert!(!html.contains("<script"));
        assert!(html.contains("a&amp;b&quot;>&lt;script"));
        assert!(!html.contains("onclick") && html.contains("method=\"dialog\""));
    }
}
