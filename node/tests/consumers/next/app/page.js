export default function Page() {
  return 'bookings';
}
