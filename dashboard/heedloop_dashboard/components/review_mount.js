// Streamlit calls this again whenever its script has run; the work goes on where it is the same queue.
export default function ({ data, parentElement, setTriggerValue }) {
  const same = parentElement.heedloopReview;
  const key = JSON.stringify(data);
  clearTimeout(parentElement.heedloopStop);
  if (!same || same.key !== key) {
    same?.stop();
    const review = new (data.item ? Settling : Review)(mount(parentElement), data, setTriggerValue);
    review.key = key;
    parentElement.heedloopReview = review;
    review.start();
  }
  return () => { parentElement.heedloopStop = setTimeout(() => { parentElement.heedloopReview?.stop(); parentElement.heedloopReview = null; }, 50); };
}
