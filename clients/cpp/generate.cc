// generate HOST:PORT PROMPT FILE: makes one picture and writes it; see docs/11-clients.md.
#include <chrono>
#include <fstream>
#include <iostream>

#include <grpcpp/grpcpp.h>

#include "atelier/v1/image_generation.grpc.pb.h"

using atelier::v1::GenerateRequest;
using atelier::v1::GenerateResponse;
using atelier::v1::ImageGenerationService;

int main(int count, char** words) {
  if (count != 4) {
    std::cerr << "usage: generate HOST:PORT PROMPT FILE\n";
    return 2;
  }
  auto channel = grpc::CreateChannel(words[1], grpc::InsecureChannelCredentials());
  auto stub = ImageGenerationService::NewStub(channel);

  GenerateRequest request;
  request.set_prompt(words[2]);
  request.set_style(atelier::v1::STYLE_LUXURY);
  request.set_seed(42);

  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::minutes(10));
  auto reader = stub->Generate(&context, request);

  std::ofstream file(words[3], std::ios::binary);
  GenerateResponse event;
  while (reader->Read(&event)) {
    if (event.has_progress()) {
      std::cerr << "\rstep " << event.progress().step() << "/" << event.progress().total_steps() << ' ';
    } else if (event.has_image_chunk()) {
      file << event.image_chunk().data();
    } else if (event.has_image_completed()) {
      const auto& done = event.image_completed();
      std::cout << words[3] << ' ' << done.dimensions().width() << 'x' << done.dimensions().height() << " seed "
                << done.seed() << '\n';
    }
  }
  file.close();

  const grpc::Status status = reader->Finish();
  if (!status.ok()) {
    std::cerr << status.error_message() << '\n';
    return 1;
  }
  return file ? 0 : 1;
}
