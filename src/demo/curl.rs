//! Each step of the walk as commands for a shell: `demo --curl 5 | sh` repeats one.

use super::folder::Addresses;
use super::world::APPLICATION;

/// The commands of a step, each line complete. Tickets work once, so whatever needs one fetches a new one first.
pub(super) fn commands(step: u8, at: &Addresses) -> String {
    let Addresses { gateway, authorization_server: server, content_server: content } = at;
    let link = format!("{gateway}/albums/vacation/beach.jpg");
    let share = format!("curl -s -u alice:alice -d resource=vacation -d user=bob -d scope=view {server}/share\n");
    let show = format!("curl -s -o /dev/null -w '%{{http_code}} %{{size_download}} bytes\\n' -H \"Authorization: Bearer $rpt\" {link}\n");
    match step {
        1 => format!("{share}echo {link}\n"),
        2 => format!("curl -si {link}\n"),
        3 => format!("{}\n", sign_in("bob", server)),
        4 => format!("{}{}", ticket_and_claims("bob", &link, server), trade(server)),
        5 => format!("{}{show}", rpt(&link, server)),
        6 => format!("{}{show}{show}", rpt(&link, server)),
        7 => format!("{}curl -si -X PUT -d 'other bytes' -H \"Authorization: Bearer $rpt\" {link}\n", rpt(&link, server)),
        8 => format!("{}{}", ticket_and_claims("carol", &link, server), trade(server)),
        9 => format!("curl -si {content}/albums/vacation/beach.jpg\n"),
        10 => format!(
            "{}curl -s -u alice:alice -X DELETE '{server}/share?resource=vacation&user=bob'\nsleep 1\n\
             curl -si -H \"Authorization: Bearer $rpt\" {link}\n# Alice shares again, so that the other steps can be repeated\n{share}",
            rpt(&link, server)
        ),
        _ => String::new(),
    }
}

fn sign_in(user: &str, server: &str) -> String {
    let (id, secret) = APPLICATION;
    format!("curl -s -u {id}:{secret} -d grant_type=password -d username={user} -d password={user} -d scope=openid {server}/token")
}

fn ticket_and_claims(user: &str, link: &str, server: &str) -> String {
    let sign_in = sign_in(user, server);
    format!(
        "ticket=$(curl -si {link} | sed -n 's/.*ticket=\"\\([^\"]*\\)\".*/\\1/p')\n\
         claims=$({sign_in} | sed -n 's/.*\"id_token\":\"\\([^\"]*\\)\".*/\\1/p')\n"
    )
}

fn trade(server: &str) -> String {
    let (id, secret) = APPLICATION;
    format!(
        "curl -s -u {id}:{secret} -d grant_type=urn:ietf:params:oauth:grant-type:uma-ticket -d ticket=$ticket -d claim_token=$claims \
         -d claim_token_format=http://openid.net/specs/openid-connect-core-1_0.html%23IDToken {server}/token\n"
    )
}

fn rpt(link: &str, server: &str) -> String {
    let trade = trade(server);
    let trade = trade.trim_end();
    format!("{}rpt=$({trade} | sed -n 's/.*\"access_token\":\"\\([^\"]*\\)\".*/\\1/p')\n", ticket_and_claims("bob", link, server))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_step_has_its_commands() {
        let at = Addresses { gateway: "http://g".into(), authorization_server: "http://s".into(), content_server: "http://c".into() };
        for step in 1..=10 {
            let text = commands(step, &at);
            assert!(text.contains("curl ") && text.ends_with('\n'), "{step}: {text}");
        }
        assert!(commands(5, &at).contains("rpt=$("));
        assert_eq!(commands(11, &at), "");
    }
}
