//! Changes of files are noticed by themselves.

use std::os::unix::fs::symlink;

use uma_gateway::demo::authorization_server::Kind;

use super::support::{Neighbours, Plan, World, until};

fn plan_with(route: &str) -> Plan {
    Plan { routes: vec![format!("{{ path: {route}, public: true }}")], ..Plan::default() }
}

async fn serves(world: &World, path: &str) -> Option<()> {
    (world.get(path).await.header("content-type") != "application/problem+json").then_some(())
}

#[tokio::test]
async fn a_file_that_is_replaced_is_taken_into_force() {
    let around = Neighbours::start(Kind::Uma2).await;
    around.plan(&Plan::default());
    let world = World::over(around, true).await;
    world.around.plan(&plan_with("/one/**"));
    until("the first change", async || serves(&world, "/one/a").await).await;
    // And once more: the watch outlives the file.
    std::fs::write(world.around.file("gateway.yaml"), world.around.yaml(&plan_with("/two/**"))).expect("written in place");
    until("the second change", async || serves(&world, "/two/a").await).await;
}

#[tokio::test]
async fn the_swap_of_a_mounted_config_map_is_noticed() {
    let around = Neighbours::start(Kind::Uma2).await;
    // As the kubelet does it: files are links through `..data`, which is swapped by a rename.
    let version = |number: u32, plan: &Plan| {
        let directory = around.file(&format!("..v{number}"));
        std::fs::create_dir(&directory).expect("a directory");
        std::fs::write(directory.join("gateway.yaml"), around.yaml(plan)).expect("written");
        symlink(format!("..v{number}"), around.file("..data_tmp")).expect("a link");
        std::fs::rename(around.file("..data_tmp"), around.file("..data")).expect("swapped");
    };
    version(1, &Plan::default());
    symlink("..data/gateway.yaml", around.file("gateway.yaml")).expect("a link");
    version(2, &Plan::default());
    let folder = around.folder.path().to_owned();
    let (third, fourth) = (around.yaml(&plan_with("/one/**")), around.yaml(&plan_with("/two/**")));
    let world = World::over(around, true).await;

    for (number, text, path) in [(3, third, "/one/a"), (4, fourth, "/two/a")] {
        let directory = folder.join(format!("..v{number}"));
        std::fs::create_dir(&directory).expect("a directory");
        std::fs::write(directory.join("gateway.yaml"), text).expect("written");
        symlink(format!("..v{number}"), folder.join("..data_tmp")).expect("a link");
        std::fs::rename(folder.join("..data_tmp"), folder.join("..data")).expect("swapped");
        std::fs::remove_dir_all(folder.join(format!("..v{}", number - 1))).expect("the kubelet removes the old one");
        until("the swap", async || serves(&world, path).await).await;
    }
}

#[tokio::test]
async fn a_broken_file_that_is_mended_is_taken() {
    let around = Neighbours::start(Kind::Uma2).await;
    around.plan(&Plan::default());
    let world = World::over(around, true).await;
    world.around.write("gateway.yaml", "version: 1\nrutes: []\n");
    until("the mistake", async || world.health("/readyz?verbose").await.text().contains("gateway.yaml:2:1").then_some(())).await;
    world.around.plan(&plan_with("/one/**"));
    until("the mended file", async || serves(&world, "/one/a").await).await;
}
