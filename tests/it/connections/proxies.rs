//! A proxy that keeps its connections to the service alive: one client's error does not affect another client.

use futures_util::stream;
use reqwest::{Body, Method};

use super::peer::app;
use crate::support::nginx::Nginx;
use crate::support::{Answer, Client};

#[tokio::test]
async fn a_wrong_key_of_one_client_does_not_break_the_next_clients_request() {
    let app = app(&[]).await;
    let Some(nginx) = Nginx::before(app.client.socket_address()) else { return };
    let (client, wrong) =
        (Client::new(&nginx.address, &app.client.key), Client::new(&nginx.address, "a-wrong-key-of-a-client"));
    for round in 0..10 {
        for pieces in [1, 10, 60] {
            let body = stream::iter((0..pieces).map(|_| Ok::<_, std::io::Error>(vec![0; 64 * 1024])));
            let request =
                wrong.request(Method::POST, "/v1/files").header("content-type", "multipart/form-data; boundary=B");
            // nginx may close the connection while the client is still sending; then there is no response to check.
            if let Ok(refused) = request.body(Body::wrap_stream(body)).send().await {
                Answer::from(refused).await.error(401, None);
            }
            let file = client.file(format!("round {round}, {pieces}")).await;
            assert_eq!(client.download(&file).await, format!("round {round}, {pieces}").into_bytes());
        }
    }
    app.nothing_is_lost_and_nothing_is_left().await;
}
