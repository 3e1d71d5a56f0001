//! The small page that a navigating browser sees instead of `problem+json`.

/// A page that says what this is, gives the request's id and, where there is one, a button to the client application.
pub fn permission_required(id: &str, open_with: Option<&str>) -> String {
    let button = open_with.map_or_else(String::new, |url| format!("<p><a class=\"button\" href=\"{}\">Open with the application</a></p>", escape(url)));
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\"><title>Permission required</title>\n\
         <style>body{{font:16px/1.5 system-ui,sans-serif;max-width:34em;margin:12vh auto;padding:0 1em}}\
         .button{{display:inline-block;padding:.5em 1em;border:1px solid;border-radius:.3em;text-decoration:none}}small{{color:#666}}</style></head>\n\
         <body><h1>Permission required</h1>\n<p>This content is shared by its owner. An application that you sign in with can ask for permission on your behalf; \
         the address alone does not open it.</p>\n{button}\n<p><small>Request {}</small></p></body>\n</html>\n",
        escape(id)
    )
}

/// Text that stands in a page, or in an attribute between quotes.
pub(crate) fn escape(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut out, character| {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            other => out.push(other),
        }
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_cannot_break_out_of_the_button() {
        let page = permission_required("4q7zk2", Some("https://app.example.org/?link=\"><script>"));
        assert!(page.contains("href=\"https://app.example.org/?link=&quot;&gt;&lt;script&gt;\""));
    }

    #[test]
    fn without_a_client_application_there_is_no_button() {
        assert!(!permission_required("4q7zk2", None).contains("href"));
    }
}
